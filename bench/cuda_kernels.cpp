// Times of single operations on a GPU at the model's real sizes, beside the limits of the same run.
//
//   build/cuda/bench/cuda_kernels [DEVICE]
//
// Weights are rotated through more than the second cache holds; an operation's time is a recorded program's over the
// number of its calls, so it holds what a launch costs inside a frame.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "cuda/cuda_ops.h"
#include "cuda/devices.h"
#include "ops/rope.h"

namespace heartmula {
namespace {

constexpr int64_t kRotated = int64_t{400} << 20;  // bytes of weights
constexpr int kCalls = 48;                        // in a program
constexpr int kRepeats = 5;

class Bench {
 public:
  Bench(int device, CudaOptions::Rows rows) : ops_(make_cuda_ops({.device = device, .rows = rows})) {}

  Tensor random(DType dtype, int64_t rows, int64_t cols) {
    std::vector<float> values(static_cast<size_t>(rows * cols));
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    for (float& value : values) value = uniform(generator_);
    Tensor x = ops_->allocate(dtype, rows, cols);
    ops_->upload(x, values);
    return x;
  }

  MatrixSource source(int64_t n, int64_t k) {
    const auto row = std::make_shared<std::vector<float>>(static_cast<size_t>(k) + 1024);
    std::uniform_real_distribution<float> uniform(-0.03F, 0.03F);
    for (float& value : *row) value = uniform(generator_);
    return {n, k, [row, k](int64_t output, float* out) { std::copy_n(row->data() + output % 1024, k, out); }, "w", {}};
  }

  std::vector<Matrix> matrices(int64_t n, int64_t k, DType dtype, bool gated) {
    const int64_t bytes = n * k * static_cast<int64_t>(dtype_size(dtype)) * (gated ? 2 : 1);
    std::vector<Matrix> result;
    for (int64_t total = 0; total < kRotated; total += bytes) {
      result.push_back(gated ? ops_->pack_gate_up(source(n, k), source(n, k), dtype) : ops_->pack(source(n, k), dtype));
    }
    return result;
  }

  /// Microseconds of a call of body(i).
  template <typename Body>
  double time(const Body& body, int calls = kCalls) {
    body(0);  // scratch memory and algorithms are chosen here
    const Tensor flag = ops_->allocate(DType::kF32, 1, 1);
    const auto program = ops_->record([&] {
      for (int i = 0; i < calls; ++i) body(i);
      ops_->clear(flag);
    });
    std::vector<double> times;
    std::vector<float> value(1);
    for (int i = 0; i <= kRepeats; ++i) {
      ops_->download(value, flag);
      const auto begin = std::chrono::steady_clock::now();
      ops_->start(*program);
      ops_->download(value, flag);
      const std::chrono::duration<double, std::micro> passed = std::chrono::steady_clock::now() - begin;
      if (i > 0) times.push_back(passed.count() / calls);
    }
    std::nth_element(times.begin(), times.begin() + kRepeats / 2, times.end());
    return times[kRepeats / 2];
  }

  Ops& ops() { return *ops_; }

 private:
  std::unique_ptr<Ops> ops_;
  std::mt19937 generator_{1};
};

struct Shape {
  const char* name;
  int64_t n, k;
  bool gated = false;
};

void language_model(int device, double read) {
  Bench bench(device, CudaOptions::Rows::kFew);
  Ops& ops = bench.ops();
  for (const Shape& s : {Shape{"qkv", 5120, 3072}, Shape{"output", 3072, 3072}, Shape{"gate and up", 8192, 3072, true},
                         Shape{"down", 3072, 8192}, Shape{"head", 8197, 3072}}) {
    const std::vector<Matrix> w = bench.matrices(s.n, s.k, DType::kBF16, s.gated);
    const double bytes = static_cast<double>(s.n * s.k) * 2.0 * (s.gated ? 2 : 1);
    fmt::print("{:<12} floor {:6.1f} us:", s.name, bytes / read * 1e6);
    for (const int64_t rows : {2, 8, 16, 32, 64, 200}) {
      const Tensor x = bench.random(DType::kF32, rows, s.k);
      const Tensor rounded = bench.random(DType::kBF16, rows, s.k);
      const Tensor gain = bench.random(DType::kF32, 1, s.k);
      const Tensor out = ops.allocate(s.gated ? DType::kBF16 : DType::kF32, rows, s.n);
      const Normed normed{x, gain, 1e-5F, rounded};
      const double us = bench.time([&](int i) {
        const Matrix& weight = w[static_cast<size_t>(i) % w.size()];
        if (s.gated) {
          ops.linear_silu_gate(out, normed, weight);
        } else if (s.k == s.n || s.k > s.n) {
          ops.linear_add(out, rounded, weight);
        } else {
          ops.linear(out, normed, weight);
        }
      });
      fmt::print("  R {} {:.1f} ({:.2f})", rows, us, bytes / read * 1e6 / us);
    }
    fmt::print("\n");
  }
  constexpr int64_t kCapacity = 3200;
  const Rope rope = make_rope(ops, rope_frequencies(128, 500000.0), kCapacity);
  for (const int64_t streams : {2, 8, 16, 64}) {
    const KvShape shape{streams, kCapacity, 8, 128, DType::kBF16};
    std::vector<std::unique_ptr<KvCache>> caches;  // as layers have, so that none is in the second cache
    for (int i = 0; i < (streams < 16 ? 8 : 2); ++i) caches.push_back(ops.make_kv_cache(shape));
    const Tensor qkv = bench.random(DType::kF32, streams, 5120);
    const Tensor mixed = ops.allocate(DType::kBF16, streams, 3072);
    fmt::print("attention of {:2} rows:", streams);
    for (const int32_t position : {300, 1500, 3000}) {
      const auto rows = ops.make_rows(streams);
      std::vector<Row> values;
      for (int32_t stream = 0; stream < streams; ++stream) values.push_back({stream, position, 1});
      ops.set_rows(*rows, values);
      const double us = bench.time([&](int i) {
        ops.append_and_attend(mixed, qkv.slice_cols(0, 3072), qkv.slice_cols(3072, 1024), qkv.slice_cols(4096, 1024),
                              rope, *caches[static_cast<size_t>(i) % caches.size()], *rows);
      });
      const double bytes = static_cast<double>(streams) * position * 4096;
      fmt::print("  at {} {:.1f} us (floor {:.1f})", position, us, bytes / read * 1e6);
    }
    fmt::print("\n");
  }
  {
    constexpr int64_t kPrompt = 200;
    const auto cache = ops.make_kv_cache({2, kCapacity, 8, 128, DType::kBF16});
    const Tensor qkv = bench.random(DType::kF32, kPrompt, 5120);
    const Tensor mixed = ops.allocate(DType::kBF16, kPrompt, 3072);
    const auto rows = ops.make_rows(kPrompt);
    std::vector<Row> values;
    for (int32_t position = 0; position < kPrompt; ++position) values.push_back({0, position, 1});
    ops.set_rows(*rows, values);
    fmt::print("attention of a prompt of {}: {:.1f} us\n", kPrompt, bench.time([&](int) {
      ops.append_and_attend(mixed, qkv.slice_cols(0, 3072), qkv.slice_cols(3072, 1024), qkv.slice_cols(4096, 1024),
                            rope, *cache, *rows);
    }));
  }
  const PhiloxNoise noise(1);
  const Tensor number = ops.allocate(DType::kI32, 1, 1);
  fmt::print("sample");
  for (const size_t count : {1, 8, 32}) {
    const auto sampler = ops.make_sampler({}, noise);
    const Tensor logits = bench.random(DType::kF32, 2, 8197);
    const Tensor codes = ops.allocate(DType::kI32, 2, 1);
    const std::vector<SongSample> songs(count, {sampler.get(), logits, number, codes});
    fmt::print("  songs {} {:.1f} us", count, bench.time([&](int) { ops.sample(songs, 0); }));
  }
  fmt::print("\n");
  const Tensor mixed = ops.allocate(DType::kBF16, 2, 3072);
  const Tensor x = bench.random(DType::kF32, 2, 3072);
  const Tensor gain = bench.random(DType::kF32, 1, 3072);
  fmt::print("norm {:.1f} us\n", bench.time([&](int) { ops.rms_norm(mixed, x, gain, 1e-5F); }));
  fmt::print("increment {:.1f} us\n", bench.time([&](int) { ops.increment(number); }));
}

void flow(int device) {
  Bench bench(device, CudaOptions::Rows::kMany);
  Ops& ops = bench.ops();
  constexpr int64_t kRows = 1488;
  for (const int64_t d : {1536, 3072}) {
    const int64_t f = d == 1536 ? 4096 : 8192;
    const Tensor x = bench.random(DType::kBF16, kRows, f);
    const Tensor gain = bench.random(DType::kF32, 1, d);
    const Tensor wide = ops.allocate(DType::kF32, kRows, 3 * d);
    const Tensor out = bench.random(DType::kF32, kRows, d);
    const Tensor hidden = ops.allocate(DType::kBF16, kRows, f);
    const auto report = [&](const char* name, double us, int64_t n, int64_t k) {
      fmt::print("{} {}: {:.0f} us, {:.0f} TFLOP/s\n", name, d, us, 2e-6 * static_cast<double>(kRows * n * k) / us);
    };
    const std::vector<Matrix> qkv = bench.matrices(3 * d, d, DType::kBF16, false);
    report("qkv",
           bench.time([&](int i) { ops.linear(wide, x.slice_cols(0, d), qkv[static_cast<size_t>(i) % qkv.size()]); }),
           3 * d, d);
    const std::vector<Matrix> o = bench.matrices(d, d, DType::kBF16, false);
    report("output", bench.time([&](int i) {
      ops.linear_add_scaled(out, x.slice_cols(0, d), o[static_cast<size_t>(i) % o.size()], gain);
    }),
           d, d);
    const std::vector<Matrix> up = bench.matrices(f, d, DType::kBF16, true);
    report("gate and up", bench.time([&](int i) {
      ops.linear_silu_gate(hidden, x.slice_cols(0, d), up[static_cast<size_t>(i) % up.size()]);
    }),
           2 * f, d);
    const std::vector<Matrix> down = bench.matrices(d, f, DType::kBF16, false);
    report("down", bench.time([&](int i) {
      ops.linear_add_scaled(out, hidden, down[static_cast<size_t>(i) % down.size()], gain);
    }),
           d, f);
    const Rope rope = make_rope(ops, rope_frequencies(d / 24, 10000.0), kRows / 2);
    const Tensor mixed = ops.allocate(DType::kBF16, kRows, d);
    fmt::print("attention of two windows: {:.0f} us\n", bench.time([&](int) {
      ops.attend_all(mixed, wide.slice_cols(0, d), wide.slice_cols(d, d), wide.slice_cols(2 * d, d), rope, 24, 2);
    }));
    fmt::print("norm: {:.0f} us\n",
               bench.time([&](int) { ops.rms_norm_modulated(x.slice_cols(0, d), out, gain, gain, gain, 1e-5F); }));
  }
}

void wave_decoder(int device) {
  Bench bench(device, CudaOptions::Rows::kMany);
  Ops& ops = bench.ops();
  int64_t rows = 3720;
  for (const int64_t channels : {1024, 512, 256, 128, 64}) {
    const int64_t tile = std::min(ops.tile_rows(), rows);
    for (const int64_t dilation : {1, 9}) {
      ResidualUnit unit;
      unit.conv1 = ops.pack(bench.source(channels, 7 * channels), DType::kBF16);
      unit.bias1 = bench.random(DType::kF32, 1, channels);
      unit.conv2 = ops.pack(bench.source(channels, channels), DType::kBF16);
      unit.bias2 = bench.random(DType::kF32, 1, channels);
      unit.taps = 7;
      unit.dilation = dilation;
      const Tensor x = bench.random(DType::kBF16, tile + 6 * dilation, channels);
      const Tensor out = ops.allocate(DType::kF32, tile, channels);
      const Tensor copy = ops.allocate(DType::kBF16, tile, channels);
      const double us = bench.time([&](int) { ops.residual_unit(out, copy, x, unit); }, 8);
      fmt::print("residual unit of {} channels, dilation {}: {:.0f} us for {} of {} rows, {:.0f} TFLOP/s\n", channels,
                 dilation, us, tile, rows, 2e-6 * static_cast<double>(tile * channels * channels * 8) / us);
    }
    rows *= channels == 128 ? 3 : 4;
  }
}

}  // namespace
}  // namespace heartmula

int main(int argc, char** argv) {
  const int device = argc > 1 ? std::atoi(argv[1]) : 0;
  const double read = heartmula::measure_cuda_read(device);
  fmt::print("read {:.0f} GB/s\n", read * 1e-9);
  heartmula::language_model(device, read);
  heartmula::flow(device);
  heartmula::wave_decoder(device);
}

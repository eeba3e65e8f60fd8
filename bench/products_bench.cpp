// Matrix products and convolutions at the sizes of the 3B model and of the codec, for every instruction set of this
// machine. `of_limit` is the fraction of what the same threads reach in the same process: of the read bandwidth for
// few rows, of the multiply-add peak otherwise; ratios of medians, the limit being measured before each pass.
//
//   taskset -c 0,1 products_bench --benchmark_filter='few_rows/avx2/bf16/.*'
//
// Threads are as many as the process may use. The weights of few rows are walked through in a set of matrices that no
// cache holds.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <vector>

#include "base/cpu_info.h"
#include "cpu/cpu_ops.h"
#include "cpu/machine_probe.h"

namespace heartmula {
namespace {

constexpr int64_t kWalkBytes = 400'000'000;
constexpr int64_t kFlowRows = 1488;  // two windows of 744 frames

struct Shape {
  const char* name;
  int64_t n;
  int64_t k;
  enum { kPlain, kAdd, kGateUp } kind = kPlain;  // n of kGateUp counts gate and up
};
constexpr Shape kDecodeShapes[] = {{"qkv", 5120, 3072},
                                   {"o", 3072, 3072, Shape::kAdd},
                                   {"gate_up", 16384, 3072, Shape::kGateUp},
                                   {"down", 3072, 8192, Shape::kAdd},
                                   {"head", 8197, 3072}};
constexpr Shape kFlowShapes[] = {{"1536_qkv", 4608, 1536},
                                 {"1536_o", 1536, 1536, Shape::kAdd},
                                 {"1536_gate_up", 8192, 1536, Shape::kGateUp},
                                 {"1536_down", 1536, 4096, Shape::kAdd},
                                 {"3072_qkv", 9216, 3072},
                                 {"3072_o", 3072, 3072, Shape::kAdd},
                                 {"3072_gate_up", 16384, 3072, Shape::kGateUp},
                                 {"3072_down", 3072, 8192, Shape::kAdd}};

/// Everything that belongs to one instruction set; made when first asked for, and the weights of one shape at a time.
struct Bed {
  explicit Bed(const std::string& isa) : ops(make_cpu_ops({.isa = isa})), probe({.isa = isa}, 2 * kWalkBytes) {}

  std::unique_ptr<Ops> ops;
  MachineProbe probe;
  std::string weights_key;
  std::vector<Matrix> weights;

  const std::vector<Matrix>& matrices(const Shape& shape, DType dtype, int64_t bytes) {
    const std::string key = std::to_string(shape.n) + " " + std::to_string(shape.k) + " " +
                            std::to_string(dtype_size(dtype)) + " " + std::to_string(shape.kind) + " " +
                            std::to_string(bytes);
    if (key == weights_key) return weights;
    weights.clear();
    weights_key = key;
    const auto read_row = [&shape](int64_t output, float* row) {
      for (int64_t k = 0; k < shape.k; ++k) row[k] = static_cast<float>((output * 7 + k * 13) % 31 - 15) * 0x1p-8F;
    };
    const int64_t each = shape.n * shape.k * static_cast<int64_t>(dtype_size(dtype));
    for (int64_t i = 0; i * each < bytes; ++i) {
      const MatrixSource half{shape.n / 2, shape.k, read_row};
      weights.push_back(shape.kind == Shape::kGateUp ? ops->pack_gate_up(half, half, dtype)
                                                     : ops->pack({shape.n, shape.k, read_row}, dtype));
    }
    return weights;
  }
};

Bed& bed(const std::string& isa) {
  static std::map<std::string, std::unique_ptr<Bed>> beds;
  std::unique_ptr<Bed>& made = beds[isa];
  if (!made) made = std::make_unique<Bed>(isa);
  return *made;
}

Tensor activations(Ops& ops, DType dtype, int64_t rows, int64_t cols) {
  Tensor x = ops.allocate(dtype, rows, cols);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) * 0.125F - 1.0F;
  ops.upload(x, values);
  return x;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Times `pass`, which does `amount` bytes or operations, and puts it beside `limit` (per second).
void measure(benchmark::State& state, double amount, const char* unit, const std::function<double()>& limit,
             const std::function<void()>& pass) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> limits;
  std::vector<double> seconds;
  pass();
  for ([[maybe_unused]] auto _ : state) {
    limits.push_back(limit());
    const Clock::time_point begin = Clock::now();
    pass();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    state.SetIterationTime(seconds.back());
  }
  const double rate = amount / median(seconds);
  state.counters[unit] = rate / 1e9;
  state.counters["limit"] = median(limits) / 1e9;
  state.counters["of_limit"] = rate / median(limits);
  state.counters["best_of_best"] =
      amount / *std::min_element(seconds.begin(), seconds.end()) / *std::max_element(limits.begin(), limits.end());
}

void run(Ops& ops, const Shape& shape, View out, ConstView x, const Matrix& weight) {
  if (shape.kind == Shape::kGateUp) {
    ops.linear_silu_gate(out, x, weight);
  } else if (shape.kind == Shape::kAdd) {
    ops.linear_add(out, x, weight);
  } else {
    ops.linear(out, x, weight);
  }
}

Tensor output(Ops& ops, const Shape& shape, DType dtype, int64_t rows) {
  const bool gated = shape.kind == Shape::kGateUp;
  return ops.allocate(gated ? dtype : DType::kF32, rows, gated ? shape.n / 2 : shape.n);
}

void few_rows(benchmark::State& state, const std::string& isa, DType dtype, const Shape& shape, int64_t rows) {
  Bed& b = bed(isa);
  const std::vector<Matrix>& weights = b.matrices(shape, dtype, kWalkBytes);
  const Tensor x = activations(*b.ops, dtype, rows, shape.k);
  const Tensor out = output(*b.ops, shape, dtype, rows);
  double bytes = 0;
  for (const Matrix& weight : weights) bytes += static_cast<double>(weight.bytes());
  measure(
      state, bytes, "GB/s", [&] { return b.probe.read_bytes_per_second(); },
      [&] {
        for (const Matrix& weight : weights) run(*b.ops, shape, out, x, weight);
      });
  const double flop = 2.0 * static_cast<double>(rows) * static_cast<double>(shape.n * shape.k * weights.size());
  state.counters["GFLOP/s"] = flop / bytes * state.counters["GB/s"].value;
}

double peak(MachineProbe& probe, DType dtype) {
  return dtype == DType::kBF16 ? probe.bf16_flop_per_second() : probe.f32_flop_per_second();
}

void flow(benchmark::State& state, const std::string& isa, DType dtype, const Shape& shape) {
  Bed& b = bed(isa);
  const Matrix& weight = b.matrices(shape, dtype, 1).front();
  const Tensor x = activations(*b.ops, dtype, kFlowRows, shape.k);
  const Tensor out = output(*b.ops, shape, dtype, kFlowRows);
  measure(
      state, 2.0 * kFlowRows * static_cast<double>(shape.n * shape.k), "GFLOP/s", [&] { return peak(b.probe, dtype); },
      [&] { run(*b.ops, shape, out, x, weight); });
}

struct Convolution {
  int64_t rows, channels, n, taps, dilation;
};

void convolution(benchmark::State& state, const std::string& isa, DType dtype, const Convolution& c) {
  Bed& b = bed(isa);
  const Matrix& weight = b.matrices({"", c.n, c.taps * c.channels}, dtype, 1).front();
  const Tensor x = activations(*b.ops, dtype, c.rows + (c.taps - 1) * c.dilation, c.channels);
  const Tensor bias = activations(*b.ops, DType::kF32, 1, c.n);
  const Tensor out = b.ops->allocate(dtype, c.rows, c.n);
  const float slope = 0.25F;
  constexpr int kTimes = 8;  // one alone may be too short to time
  measure(
      state, 2.0 * kTimes * static_cast<double>(c.rows * c.n * c.taps * c.channels), "GFLOP/s",
      [&] { return peak(b.probe, dtype); },
      [&] {
        for (int i = 0; i < kTimes; ++i) {
          b.ops->conv1d(out, x, weight, c.taps, c.dilation, {.bias = bias, .prelu = &slope});
        }
      });
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& body, int iterations) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(iterations)
      ->Unit(benchmark::kMillisecond);
}

bool add_all() {
  for (const std::string& isa : available_isas()) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      const std::string prefix = isa + "/" + (dtype == DType::kBF16 ? "bf16" : "f32") + "/";
      for (const Shape& shape : kDecodeShapes) {
        for (const int64_t rows : {1, 2, 4, 6, 8, 12, 16, 32}) {
          add(
              "few_rows/" + prefix + shape.name + "/rows:" + std::to_string(rows),
              [=](benchmark::State& state) { few_rows(state, isa, dtype, shape, rows); }, 9);
        }
      }
      for (const Shape& shape : kFlowShapes) {
        add(
            "flow/" + prefix + shape.name, [=](benchmark::State& state) { flow(state, isa, dtype, shape); }, 5);
      }
      for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1536, 1024}, {3072, 2560}, {256, 3072}}) {
        const Convolution c{kFlowRows / 2, k, n, 3, 1};
        add(
            "conv/" + prefix + "k3_" + std::to_string(k) + "_" + std::to_string(n),
            [=](benchmark::State& state) { convolution(state, isa, dtype, c); }, 5);
      }
      for (const int64_t channels : {1024, 512, 256, 128, 64}) {
        for (const int64_t dilation : {1, 5, 9}) {
          const Convolution c{480, channels, channels, 7, dilation};
          add(
              "conv/" + prefix + "k7_" + std::to_string(channels) + "_d" + std::to_string(dilation),
              [=](benchmark::State& state) { convolution(state, isa, dtype, c); }, 5);
        }
        const Convolution c{480, channels, channels, 1, 1};
        add(
            "conv/" + prefix + "k1_" + std::to_string(channels),
            [=](benchmark::State& state) { convolution(state, isa, dtype, c); }, 5);
      }
    }
  }
  return true;
}

[[maybe_unused]] const bool kAdded = add_all();

}  // namespace
}  // namespace heartmula

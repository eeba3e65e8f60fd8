// Everything of a step that is no product: attention, norms, cache, element-wise operations, at the sizes of
// the 3B model and of the codec. Each beside its limit: `GB/s` with `of_read`, the fraction of the read bandwidth, or
// `GFLOP/s` with `of_peak`, the fraction of the multiply-add peak of the dtype.
//
// Threads are as many as the process may use: taskset -c 0,1 attention_bench. Caches and activations of one step of a
// model lie in memory, not in the processor's cache, for its weights have passed by since: decode attention walks over
// more caches than that holds.
#include <benchmark/benchmark.h>

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/machine_probe.h"
#include "ops/rope.h"

namespace heartmula {
namespace {

constexpr int64_t kHeads = 24;
constexpr int64_t kKvHeads = 8;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kWidth = 3072;
constexpr int64_t kFrames = 744;             // of a window of the codec
constexpr int64_t kWalkBytes = 256'000'000;  // more than the last cache holds

Ops& ops() {
  static const std::unique_ptr<Ops> instance = make_cpu_ops({});
  return *instance;
}

MachineProbe& probe() {
  static MachineProbe instance{CpuOptions{}};
  return instance;
}

/// The best of several samples, in 1e9 a second.
template <double (MachineProbe::*kSample)()>
double limit() {
  static const double best = [] {
    double most = 0;
    for (int i = 0; i < 5; ++i) most = std::max(most, (probe().*kSample)());
    return most / 1e9;
  }();
  return best;
}

double read_limit() {
  return limit<&MachineProbe::read_bytes_per_second>();
}

double peak_limit(DType dtype) {
  return dtype == DType::kF32 ? limit<&MachineProbe::f32_flop_per_second>()
                              : limit<&MachineProbe::bf16_flop_per_second>();
}

void report_bytes(benchmark::State& state, double bytes) {
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(bytes / 1e9, Counter::kIsIterationInvariantRate);
  state.counters["of_read"] = Counter(bytes / 1e9 / read_limit(), Counter::kIsIterationInvariantRate);
}

void report_flop(benchmark::State& state, double flop, DType dtype) {
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(flop / 1e9, Counter::kIsIterationInvariantRate);
  state.counters["of_peak"] = Counter(flop / 1e9 / peak_limit(dtype), Counter::kIsIterationInvariantRate);
}

Tensor random_tensor(DType dtype, int64_t rows, int64_t cols) {
  Tensor x = ops().allocate(dtype, rows, cols);
  std::vector<float> values(static_cast<size_t>(rows * cols));
  uint32_t state = 1;
  for (float& v : values) {
    state = state * 1664525 + 1013904223;
    v = static_cast<float>(state >> 8) / static_cast<float>(1 << 24) - 0.5F;
  }
  ops().upload(x, values);
  return x;
}

DType dtype_of(int64_t argument) {
  return argument == 0 ? DType::kF32 : DType::kBF16;
}

Rope backbone_rope(int64_t positions) {
  return make_rope(ops(), rope_frequencies(kHeadDim, 500000.0), positions);
}

/// As many caches of a backbone layer as are sure to lie in memory, each filled with `context` positions.
std::vector<std::unique_ptr<KvCache>> filled_caches(int64_t layers, int64_t streams, int64_t context, DType dtype,
                                                    const Rope& rope) {
  const Tensor k = random_tensor(DType::kF32, streams, kKvHeads * kHeadDim);
  const Tensor v = random_tensor(DType::kF32, streams, kKvHeads * kHeadDim);
  std::vector<Row> rows;
  for (int32_t s = 0; s < streams; ++s) rows.push_back({s, 0, static_cast<int32_t>(context)});
  std::vector<std::unique_ptr<KvCache>> caches;
  for (int64_t i = 0; i < layers; ++i) {
    caches.push_back(ops().make_kv_cache({streams, context, kKvHeads, kHeadDim, dtype}));
    ops().append_kv(*caches.back(), k, v, rope, rows);
  }
  return caches;
}

/// One new position of each stream over its cache. Arguments: context, streams, bf16.
void decode_attention(benchmark::State& state) {
  const int64_t context = state.range(0);
  const int64_t streams = state.range(1);
  const DType dtype = dtype_of(state.range(2));
  const int64_t bytes = 2 * streams * context * kKvHeads * kHeadDim * static_cast<int64_t>(dtype_size(dtype));
  const Rope rope = backbone_rope(context);
  const auto caches = filled_caches(std::max<int64_t>(2, kWalkBytes / bytes), streams, context, dtype, rope);
  const Tensor queries = random_tensor(DType::kF32, streams, kHeads * kHeadDim);
  const Tensor out = ops().allocate(dtype, streams, kHeads * kHeadDim);
  std::vector<Row> rows;
  for (int32_t s = 0; s < streams; ++s) rows.push_back({s, static_cast<int32_t>(context - 1)});
  size_t layer = 0;
  for (auto _ : state) {
    ops().attend(out, queries, rope, *caches[layer], rows);
    layer = (layer + 1) % caches.size();
  }
  report_bytes(state, static_cast<double>(bytes));
}
BENCHMARK(decode_attention)
    ->ArgNames({"context", "streams", "bf16"})
    ->ArgsProduct({{64, 512, 2048, 8192}, {2, 8}, {0, 1}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

/// A prompt of 400 positions. Argument: bf16.
void prefill_attention(benchmark::State& state) {
  const int64_t count = 400;
  const DType dtype = dtype_of(state.range(0));
  const Rope rope = backbone_rope(count);
  const auto caches = filled_caches(1, 1, count, dtype, rope);
  const Tensor queries = random_tensor(DType::kF32, count, kHeads * kHeadDim);
  const Tensor out = ops().allocate(dtype, count, kHeads * kHeadDim);
  std::vector<Row> rows;
  for (int32_t i = 0; i < count; ++i) rows.push_back({0, i});
  for (auto _ : state) ops().attend(out, queries, rope, *caches[0], rows);
  report_flop(state, 4.0 * kHeads * kHeadDim * count * (count + 1) / 2, dtype);
}
BENCHMARK(prefill_attention)->ArgName("bf16")->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond);

/// Rotation and attention of a guidance pair in one layer of the flow transformer. Arguments: head size, bf16.
void flow_attention(benchmark::State& state) {
  const int64_t head_dim = state.range(0);
  const DType dtype = dtype_of(state.range(1));
  const int64_t width = kHeads * head_dim;
  const Tensor qkv = random_tensor(DType::kF32, 2 * kFrames, 3 * width);
  const Tensor out = ops().allocate(dtype, 2 * kFrames, width);
  const Rope rope = make_rope(ops(), rope_frequencies(head_dim, 10000.0), kFrames);
  for (auto _ : state) {
    ops().attend_all(out, qkv.slice_cols(0, width), qkv.slice_cols(width, width), qkv.slice_cols(2 * width, width),
                     rope, kHeads, 2);
  }
  report_flop(state, 2.0 * 4.0 * kFrames * kFrames * static_cast<double>(width), dtype);
}
BENCHMARK(flow_attention)
    ->ArgNames({"head", "bf16"})
    ->ArgsProduct({{64, 128}, {0, 1}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

/// body(copy) over copies of the operands that together are larger than the processor's cache, unless they are few rows
/// that a step has just written.
template <typename Body>
void walk(benchmark::State& state, int64_t bytes, const Body& body) {
  int64_t copy = 0;
  for (auto _ : state) {
    body(copy);
    ++copy;
  }
  report_bytes(state, static_cast<double>(bytes));
}

std::vector<Tensor> copies(int64_t count, DType dtype, int64_t rows, int64_t cols) {
  std::vector<Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) tensors.push_back(random_tensor(dtype, rows, cols));
  return tensors;
}

int64_t copies_of(int64_t rows, int64_t bytes) {
  return rows < 16 ? 1 : kWalkBytes / bytes;
}

/// x f32 to bf16. Arguments: rows, columns.
void rms_norm(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1), bytes = rows * cols * 6;
  const std::vector<Tensor> x = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  const std::vector<Tensor> out = copies(copies_of(rows, bytes), DType::kBF16, rows, cols);
  const Tensor gain = random_tensor(DType::kF32, 1, cols);
  walk(state, bytes, [&](int64_t i) {
    const auto copy = static_cast<size_t>(i) % x.size();
    ops().rms_norm(out[copy], x[copy], gain, 1e-5F);
  });
}
BENCHMARK(rms_norm)->Args({2, 3072})->Args({400, 3072})->UseRealTime()->Unit(benchmark::kMicrosecond);

/// x and out f32. Arguments: rows, columns.
void rms_norm_modulated(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1), bytes = rows * cols * 8;
  const std::vector<Tensor> x = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  const std::vector<Tensor> out = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  const Tensor gain = random_tensor(DType::kF32, 1, cols);
  walk(state, bytes, [&](int64_t i) {
    const auto copy = static_cast<size_t>(i) % x.size();
    ops().rms_norm_modulated(out[copy], x[copy], gain, gain, gain, 1e-6F);
  });
}
BENCHMARK(rms_norm_modulated)
    ->Args({2 * kFrames, 1536})
    ->Args({2 * kFrames, 3072})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

void layer_norm_modulated(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1), bytes = rows * cols * 8;
  const std::vector<Tensor> x = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  const std::vector<Tensor> out = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  const Tensor gain = random_tensor(DType::kF32, 1, cols);
  walk(state, bytes, [&](int64_t i) {
    const auto copy = static_cast<size_t>(i) % x.size();
    ops().layer_norm_modulated(out[copy], x[copy], gain, gain, 1e-6F);
  });
}
BENCHMARK(layer_norm_modulated)->Args({2 * kFrames, 3072})->UseRealTime()->Unit(benchmark::kMicrosecond);

/// Keys and values of `rows` positions of one stream (2: one position of two) into a bf16 cache. Arguments: rows.
void append_kv(benchmark::State& state) {
  const int64_t count = state.range(0);
  const int64_t context = 512;
  const Rope rope = backbone_rope(context);
  const Tensor qkv = random_tensor(DType::kF32, count, 5120);
  const auto caches = filled_caches(count < 16 ? 60 : 2, 2, context, DType::kBF16, rope);
  std::vector<Row> rows;
  for (int32_t i = 0; i < count; ++i) rows.push_back(count == 2 ? Row{i, 511} : Row{0, i});
  walk(state, count * kKvHeads * kHeadDim * 2 * 6, [&](int64_t i) {
    ops().append_kv(*caches[static_cast<size_t>(i) % caches.size()], qkv.slice_cols(3072, 1024),
                    qkv.slice_cols(4096, 1024), rope, rows);
  });
}
BENCHMARK(append_kv)->Arg(2)->Arg(400)->UseRealTime()->Unit(benchmark::kMicrosecond);

void silu(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1), bytes = rows * cols * 8;
  const std::vector<Tensor> x = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  walk(state, bytes, [&](int64_t i) {
    const Tensor& place = x[static_cast<size_t>(i) % x.size()];
    ops().silu(place, place);
  });
}
BENCHMARK(silu)->Args({2, 3072})->Args({2 * kFrames, 1536})->UseRealTime()->Unit(benchmark::kMicrosecond);

void combine(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1), bytes = rows * cols * 12;
  const std::vector<Tensor> x = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  const std::vector<Tensor> y = copies(copies_of(rows, bytes), DType::kF32, rows, cols);
  walk(state, bytes, [&](int64_t i) {
    const auto copy = static_cast<size_t>(i) % x.size();
    ops().combine(x[copy], 1.0F, x[copy], 0.1F, y[copy]);
  });
}
BENCHMARK(combine)->Args({2, 3072})->Args({kFrames, 256})->UseRealTime()->Unit(benchmark::kMicrosecond);

/// The embedding of a frame: 8 entries of an f32 table, rounded to bf16, for each of two rows; of a prompt, one each.
void embed_sum(benchmark::State& state) {
  const int64_t rows = state.range(0), per_row = state.range(1);
  const Tensor entries = random_tensor(DType::kF32, 16384, kWidth);  // 200 MB
  const Table table{entries, DType::kBF16};
  const Tensor out = ops().allocate(DType::kF32, rows, kWidth);
  std::vector<int32_t> ids(static_cast<size_t>(rows * per_row));
  uint32_t random = 7;
  for (auto _ : state) {
    for (int32_t& id : ids) id = static_cast<int32_t>((random = random * 1664525 + 1013904223) >> 18);
    ops().embed_sum(out, table, ids, per_row);
  }
  report_bytes(state, static_cast<double>(rows * per_row * kWidth * 4));
}
BENCHMARK(embed_sum)->Args({2, 8})->Args({400, 1})->UseRealTime()->Unit(benchmark::kMicrosecond);

/// All that is no product in the backbone's pass for a new frame of two streams in bf16 at context 512: 28 layers of
/// two norms, cache and attention. `of_frame` holds it against the time in which the memory can give the
/// frame's 10.53 GB of weights.
void decode_step(benchmark::State& state) {
  const int64_t context = 512;
  const int64_t streams = 2;
  const Rope rope = backbone_rope(context);
  const auto caches = filled_caches(28, streams, context, DType::kBF16, rope);
  const Tensor x = random_tensor(DType::kF32, streams, kWidth);
  const Tensor gain = random_tensor(DType::kF32, 1, kWidth);
  const Tensor normed = ops().allocate(DType::kBF16, streams, kWidth);
  const Tensor qkv = random_tensor(DType::kF32, streams, 5120);
  const Tensor mixed = ops().allocate(DType::kBF16, streams, kWidth);
  std::vector<Row> rows;
  for (int32_t s = 0; s < streams; ++s) rows.push_back({s, static_cast<int32_t>(context - 1)});
  for (auto _ : state) {
    for (const auto& cache : caches) {
      ops().rms_norm(normed, x, gain, 1e-5F);
      ops().append_kv(*cache, qkv.slice_cols(kWidth, 1024), qkv.slice_cols(kWidth + 1024, 1024), rope, rows);
      ops().attend(mixed, qkv.slice_cols(0, kWidth), rope, *cache, rows);
      ops().rms_norm(normed, x, gain, 1e-5F);
    }
  }
  using benchmark::Counter;
  const double frame_seconds = 10.53 / read_limit();
  state.counters["of_frame"] = Counter(frame_seconds, Counter::kIsIterationInvariantRate | Counter::kInvert);
}
BENCHMARK(decode_step)->UseRealTime()->Unit(benchmark::kMicrosecond);

/// The limits themselves: GB/s read, GFLOP/s of f32 and bf16.
void limits(benchmark::State& state) {
  for (auto _ : state) benchmark::ClobberMemory();
  state.counters["read"] = read_limit();
  state.counters["f32"] = peak_limit(DType::kF32);
  state.counters["bf16"] = peak_limit(DType::kBF16);
}
BENCHMARK(limits)->Iterations(1);

}  // namespace
}  // namespace heartmula

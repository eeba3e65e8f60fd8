// A thread for four neighbouring elements, read and written at once where they lie so. Memory is the limit.
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/row_sums.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTogether = 4;

bool fours(ConstView x) {
  const auto bytes = static_cast<uintptr_t>(kTogether * dtype_size(x.dtype));
  return x.data == nullptr || (x.stride % kTogether == 0 && reinterpret_cast<uintptr_t>(x.data) % bytes == 0);
}

__device__ inline void load_four(float (&v)[kTogether], const In& x, int64_t row, int64_t column) {
  const int64_t at = row * x.stride + column;
  if (x.bf16) {
    const uint2 words = *reinterpret_cast<const uint2*>(static_cast<const uint16_t*>(x.data) + at);
    v[0] = low_bf16(words.x);
    v[1] = high_bf16(words.x);
    v[2] = low_bf16(words.y);
    v[3] = high_bf16(words.y);
  } else {
    const float4 values = *reinterpret_cast<const float4*>(static_cast<const float*>(x.data) + at);
    v[0] = values.x;
    v[1] = values.y;
    v[2] = values.z;
    v[3] = values.w;
  }
}

__device__ inline void store_four(const Out& out, int64_t row, int64_t column, const float (&v)[kTogether]) {
  const int64_t at = row * out.stride + column;
  if (out.bf16) {
    *reinterpret_cast<uint2*>(static_cast<uint16_t*>(out.data) + at) = {to_bf16_pair(v[0], v[1]),
                                                                        to_bf16_pair(v[2], v[3])};
  } else {
    *reinterpret_cast<float4*>(static_cast<float*>(out.data) + at) = {v[0], v[1], v[2], v[3]};
  }
}

/// out = f(x, y); `y` is read only by functions of two.
template <typename Function>
__global__ void __launch_bounds__(kThreads)
    map_kernel(Out out, In x, In y, int64_t rows, int64_t cols, bool wide, Function f) {
  start_next();
  wait_for_previous();
  const int64_t per_row = (cols + kTogether - 1) / kTogether;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (item >= rows * per_row) return;
  const int64_t row = item / per_row;
  const int64_t first = item % per_row * kTogether;
  if (wide && first + kTogether <= cols) {
    float a[kTogether] = {};
    float b[kTogether] = {};
    if (Function::kInputs > 0) load_four(a, x, row, first);
    if (Function::kInputs > 1) load_four(b, y, row, first);
    for (int i = 0; i < kTogether; ++i) a[i] = f(a[i], b[i]);
    store_four(out, row, first, a);
    return;
  }
  for (int64_t column = first; column < first + kTogether && column < cols; ++column) {
    const float a = Function::kInputs > 0 ? x.load(row, column) : 0.0f;
    const float b = Function::kInputs > 1 ? y.load(row, column) : 0.0f;
    out.store(row, column, f(a, b));
  }
}

struct Zero {
  static constexpr int kInputs = 0;
  __device__ float operator()(float, float) const { return 0.0f; }
};
struct Same {
  static constexpr int kInputs = 1;
  __device__ float operator()(float x, float) const { return x; }
};
struct Combine {
  static constexpr int kInputs = 2;
  float a;
  float b;
  __device__ float operator()(float x, float y) const { return __fadd_rn(__fmul_rn(a, x), __fmul_rn(b, y)); }
};
struct Guide {
  static constexpr int kInputs = 2;
  float guidance;
  __device__ float operator()(float x, float y) const { return __fadd_rn(y, __fmul_rn(guidance, __fadd_rn(x, -y))); }
};
struct Silu {
  static constexpr int kInputs = 1;
  __device__ float operator()(float x, float) const { return silu_of(x); }
};
struct RoundLevels {
  static constexpr int kInputs = 1;
  float levels;
  __device__ float operator()(float x, float) const { return rintf(__fmul_rn(levels, x)) / levels; }
};

template <typename Function>
void map(cudaStream_t stream, View out, ConstView x, ConstView y, Function f) {
  const int64_t items = out.rows * ((out.cols + kTogether - 1) / kTogether);
  if (items == 0) return;
  const dim3 blocks(static_cast<unsigned>((items + kThreads - 1) / kThreads));
  launch(stream, {blocks, dim3(kThreads)}, map_kernel<Function>, Out(out), In(x), In(y), out.rows, out.cols,
         fours(out) && fours(x) && fours(y), f);
}

// A thread an output; the taps in ascending order.
__global__ void __launch_bounds__(kThreads)
    diagonal_kernel(float* out, In x, int64_t outputs, int64_t taps, const float* bias) {
  start_next();
  wait_for_previous();
  const int64_t t = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (t >= outputs) return;
  float sum = 0.0f;
  for (int64_t j = 0; j < taps; ++j) sum += x.load(t + j, j);
  out[t] = sum + (bias != nullptr ? *bias : 0.0f);
}

}  // namespace

void clear(cudaStream_t stream, View out) {
  map(stream, out, {}, {}, Zero{});
}
void copy(cudaStream_t stream, View out, ConstView x) {
  map(stream, out, x, {}, Same{});
}
void combine(cudaStream_t stream, View out, float a, ConstView x, float b, ConstView y) {
  map(stream, out, x, y, Combine{a, b});
}
void guide(cudaStream_t stream, View out, ConstView x, ConstView y, float guidance) {
  map(stream, out, x, y, Guide{guidance});
}
void silu(cudaStream_t stream, View out, ConstView x) {
  map(stream, out, x, {}, Silu{});
}
void round_levels(cudaStream_t stream, View out, ConstView x, float levels) {
  map(stream, out, x, {}, RoundLevels{levels});
}

void diagonal_sum(cudaStream_t stream, View out, ConstView x, ConstView bias) {
  const dim3 blocks(static_cast<unsigned>((out.cols + kThreads - 1) / kThreads));
  launch(stream, {blocks, dim3(kThreads)}, diagonal_kernel, static_cast<float*>(out.data), In(x), out.cols, x.cols,
         floats_of(bias));
}

}  // namespace heartmula::cuda

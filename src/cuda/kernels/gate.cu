// Four outputs a thread: 16 or 32 bytes in, 8 or 16 bytes out.
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/kernels/gate.h"
#include "cuda/kernels/row_sums.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kOutputs = 4;

__device__ inline void load_pairs(float (&to)[2 * kOutputs], const uint16_t* from) {
  unpack_bf16(to, *reinterpret_cast<const uint4*>(from));
}
__device__ inline void load_pairs(float (&to)[2 * kOutputs], const float* from) {
  load_floats(to, from);
}

__device__ inline float float_of(uint16_t bits) {
  return from_bf16(bits);
}
__device__ inline float float_of(float value) {
  return value;
}

template <typename Value>
__global__ void __launch_bounds__(kThreads) gate_kernel(Out out, const Value* x, int64_t stride, int columns) {
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kOutputs;
  if (column >= columns) return;
  const Value* pairs = x + row * stride + 2 * column;
  if (column + kOutputs <= columns) {
    float v[2 * kOutputs];
    load_pairs(v, pairs);
    const float gated[kOutputs] = {silu_of(v[0]) * v[1], silu_of(v[2]) * v[3], silu_of(v[4]) * v[5],
                                   silu_of(v[6]) * v[7]};
    out.store(row, column, gated);
    return;
  }
  for (int i = 0; column + i < columns; ++i) {
    out.store(row, column + i, silu_of(float_of(pairs[2 * i])) * float_of(pairs[2 * i + 1]));
  }
}

template <typename Value>
void launch_gate(cudaStream_t stream, View out, ConstView x) {
  const int64_t blocks_of_row = (out.cols + kThreads * kOutputs - 1) / (kThreads * kOutputs);
  launch(stream, {dim3(static_cast<unsigned>(out.rows), static_cast<unsigned>(blocks_of_row)), dim3(kThreads)},
         gate_kernel<Value>, Out(out), static_cast<const Value*>(x.data), x.stride, static_cast<int>(out.cols));
}

}  // namespace

void gate(cudaStream_t stream, View out, ConstView x) {
  out.dtype == DType::kBF16 ? launch_gate<uint16_t>(stream, out, x) : launch_gate<float>(stream, out, x);
}

}  // namespace heartmula::cuda

// Two outputs a thread: 16 bytes in, a word or two out.
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/kernels/gate.h"
#include "cuda/kernels/row_sums.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) gate_kernel(Out out, const float* x, int64_t stride, int64_t columns) {
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int64_t column = 2 * (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x);
  const float* pairs = x + row * stride + 2 * column;
  if (column + 1 < columns) {
    const float4 v = *reinterpret_cast<const float4*>(pairs);
    const float first = silu_of(v.x) * v.y;
    const float second = silu_of(v.z) * v.w;
    if (out.bf16 && out.stride % 2 == 0) {
      static_cast<uint32_t*>(out.data)[(row * out.stride + column) / 2] = to_bf16_pair(first, second);
    } else {
      out.store(row, column, first);
      out.store(row, column + 1, second);
    }
  } else if (column < columns) {
    out.store(row, column, silu_of(pairs[0]) * pairs[1]);
  }
}

}  // namespace

void gate(cudaStream_t stream, View out, ConstView x) {
  const dim3 blocks(static_cast<unsigned>(out.rows),
                    static_cast<unsigned>((out.cols + 2 * kThreads - 1) / (2 * kThreads)));
  launch(stream, {blocks, dim3(kThreads)}, gate_kernel, Out(out), static_cast<const float*>(x.data), x.stride,
         out.cols);
}

}  // namespace heartmula::cuda

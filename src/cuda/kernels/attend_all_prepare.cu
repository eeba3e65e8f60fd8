// Rotates, rounds and lays out queries, keys and values for the kernels of attention without a mask.
#include "cuda/kernels/attend_all_parts.h"
#include "cuda/kernels/device.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;

__device__ inline void store_pair(uint16_t* to, float first, float second) {
  *reinterpret_cast<uint32_t*>(to) = to_bf16_pair(first, second);
}
__device__ inline void store_pair(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = {first, second};
}

/// A thread for each pair of a padded head of a padded row: y0 = x0 cos - x1 sin, y1 = x1 cos + x0 sin for queries and
/// keys. Neighbours read neighbouring pairs.
template <typename Value>
__global__ void __launch_bounds__(kThreads) prepare(const AttendAll work, const AttendInput in) {
  start_next();
  wait_for_previous();
  const int pairs = work.padded / 2;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int pair = static_cast<int>(index % pairs);
  const int head = static_cast<int>(index / pairs % work.heads);
  const int row = static_cast<int>(index / pairs / work.heads);
  const int64_t in_head = int64_t{row} * work.padded + 2 * pair;
  if (in_head >= work.key_head) return;

  const bool inside = 2 * pair < work.head_dim;
  const int64_t column = int64_t{head} * work.head_dim + 2 * pair;
  const auto rotate = [&](const float* x, int64_t stride, void* heads, int64_t head_size, int rows) {
    float y0 = 0.0F;
    float y1 = 0.0F;
    if (inside && row < rows) {
      const float x0 = x[row * stride + column];
      const float x1 = x[row * stride + column + 1];
      const float cos = in.cos[row * in.cos_stride + pair];
      const float sin = in.sin[row * in.sin_stride + pair];
      y0 = __fadd_rn(__fmul_rn(x0, cos), -__fmul_rn(x1, sin));
      y1 = __fadd_rn(__fmul_rn(x1, cos), __fmul_rn(x0, sin));
    }
    store_pair(static_cast<Value*>(heads) + head * head_size + in_head, y0, y1);
  };
  if (in_head < work.query_head) {
    rotate(in.queries, in.query_stride, work.queries, work.query_head, work.query_rows);
  }
  rotate(in.keys, in.key_stride, work.keys, work.key_head, work.key_rows);
  const float* value = in.values + row * in.value_stride + column;
  const bool stored = inside && row < work.key_rows;
  store_pair(static_cast<Value*>(work.values) + head * work.key_head + in_head, stored ? value[0] : 0.0F,
             stored ? value[1] : 0.0F);
}

template <typename Value>
void launch_prepare(cudaStream_t stream, const AttendAll& work, const AttendInput& in) {
  const int64_t pairs = work.heads * work.key_head / 2;
  launch(stream, {.blocks = dim3(static_cast<unsigned>((pairs + kThreads - 1) / kThreads)), .threads = dim3(kThreads)},
         prepare<Value>, work, in);
}

}  // namespace

void prepare_attend_all(cudaStream_t stream, const AttendAll& work, const AttendInput& in, bool bf16) {
  bf16 ? launch_prepare<uint16_t>(stream, work, in) : launch_prepare<float>(stream, work, in);
}

}  // namespace heartmula::cuda

// Rotates, rounds and lays out queries, keys and values for the kernels of attention without a mask.
#include "cuda/kernels/attend_all_parts.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;

template <int kCount>
__device__ inline void store_values(uint16_t* to, const float (&values)[kCount]) {
  if constexpr (kCount == 8) {
    *reinterpret_cast<uint4*>(to) = {to_bf16_pair(values[0], values[1]), to_bf16_pair(values[2], values[3]),
                                     to_bf16_pair(values[4], values[5]), to_bf16_pair(values[6], values[7])};
  } else {
    HEARTMULA_UNROLL
    for (int i = 0; i < kCount; i += 2) {
      *reinterpret_cast<uint32_t*>(to + i) = to_bf16_pair(values[i], values[i + 1]);
    }
  }
}
template <int kCount>
__device__ inline void store_values(float* to, const float (&values)[kCount]) {
  HEARTMULA_UNROLL
  for (int i = 0; i < kCount; i += 2) *reinterpret_cast<float2*>(to + i) = {values[i], values[i + 1]};
}

/// y0 = x0 cos - x1 sin, y1 = x1 cos + x0 sin of each pair.
template <int kCount>
__device__ inline void rotate(float (&x)[kCount], const float (&cos)[kCount / 2], const float (&sin)[kCount / 2]) {
  HEARTMULA_UNROLL
  for (int i = 0; i < kCount / 2; ++i) {
    const float x0 = x[2 * i];
    const float x1 = x[2 * i + 1];
    x[2 * i] = __fadd_rn(__fmul_rn(x0, cos[i]), -__fmul_rn(x1, sin[i]));
    x[2 * i + 1] = __fadd_rn(__fmul_rn(x1, cos[i]), __fmul_rn(x0, sin[i]));
  }
}

/// A thread for each `kCount` values, 2 or 8, of a padded head of a padded row. Neighbours read what stands beside each
/// other, and each its queries, keys and values at once.
template <typename Value, int kCount>
__global__ void __launch_bounds__(kThreads) prepare(const AttendAll work, const AttendInput in) {
  start_next();
  const int pieces = work.padded / kCount;
  const int index = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int column = index % pieces * kCount;
  const int head = index / pieces % work.heads;
  const int row = index / pieces / work.heads;
  const int window = static_cast<int>(blockIdx.y);
  const int64_t in_head = int64_t{row} * work.padded + column;
  wait_for_previous();
  if (in_head >= work.key_head) return;

  float query[kCount] = {};
  float key[kCount] = {};
  float value[kCount] = {};
  const bool inside = column < work.head_dim;
  const int64_t from = int64_t{head} * work.head_dim + column;
  if (inside && row < work.key_rows) {
    float cos[kCount / 2];
    float sin[kCount / 2];
    const int64_t key_row = int64_t{window} * work.key_rows + row;
    const int64_t query_row = int64_t{window} * work.query_rows + row;
    const bool asks = row < work.query_rows;
    if (asks) load_floats(query, in.queries + query_row * in.query_stride + from);
    load_floats(key, in.keys + key_row * in.key_stride + from);
    load_floats(value, in.values + key_row * in.value_stride + from);
    load_floats(cos, in.cos + row * in.cos_stride + column / 2);
    load_floats(sin, in.sin + row * in.sin_stride + column / 2);
    rotate(query, cos, sin);
    rotate(key, cos, sin);
  }
  const int64_t index_of_head = int64_t{window} * work.heads + head;
  if (in_head < work.query_head) {
    store_values(static_cast<Value*>(work.queries) + index_of_head * work.query_head + in_head, query);
  }
  const int64_t to = index_of_head * work.key_head + in_head;
  store_values(static_cast<Value*>(work.keys) + to, key);
  store_values(static_cast<Value*>(work.values) + to, value);
}

template <typename Value, int kCount>
void launch_prepare(cudaStream_t stream, const AttendAll& work, const AttendInput& in) {
  const int64_t threads = work.heads * work.key_head / kCount;
  const dim3 blocks(static_cast<unsigned>((threads + kThreads - 1) / kThreads), static_cast<unsigned>(work.windows));
  launch(stream, {.blocks = blocks, .threads = dim3(kThreads)}, prepare<Value, kCount>, work, in);
}

template <typename Value>
void launch_prepare(cudaStream_t stream, const AttendAll& work, const AttendInput& in) {
  in.eights ? launch_prepare<Value, 8>(stream, work, in) : launch_prepare<Value, 2>(stream, work, in);
}

}  // namespace

void prepare_attend_all(cudaStream_t stream, const AttendAll& work, const AttendInput& in, bool bf16) {
  bf16 ? launch_prepare<uint16_t>(stream, work, in) : launch_prepare<float>(stream, work, in);
}

}  // namespace heartmula::cuda

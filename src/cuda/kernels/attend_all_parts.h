// What the host gives the kernels of attend_all.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace heartmula::cuda {

constexpr int kAttendTile = 64;  // queries of a block, and keys of a step

/// Heads that lie one after the other, [windows][heads][rows, a multiple of kAttendTile][padded], zero where there is
/// nothing.
struct AttendAll {
  void* queries = nullptr;
  void* keys = nullptr;
  void* values = nullptr;
  int32_t windows = 0;
  int32_t query_rows = 0;  // of a window
  int32_t key_rows = 0;
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t padded = 0;      // head_dim, rounded up to 16, 32, 64 or 128
  int64_t query_head = 0;  // elements of a head's queries, padding included
  int64_t key_head = 0;    // of its keys, and of its values

  void* out = nullptr;  // [windows * query_rows, heads * head_dim]
  int64_t out_stride = 0;
  bool out_pairs = false;  // pairs of bf16 stand at multiples of 4 bytes
  float scale = 1.0F;      // of scores, log2(e) included
};

/// Queries, keys and values as Ops::attend_all is given them.
struct AttendInput {
  const float* queries = nullptr;
  const float* keys = nullptr;
  const float* values = nullptr;
  int64_t query_stride = 0;
  int64_t key_stride = 0;
  int64_t value_stride = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
  int64_t cos_stride = 0;
  int64_t sin_stride = 0;
  bool eights = false;  // eight values of a head, and four of cos and sin, stand at multiples of 16 bytes
};

/// A block for each kAttendTile queries of each head of each window.
inline dim3 attend_all_blocks(const AttendAll& work) {
  return dim3(static_cast<unsigned>(work.query_head / (int64_t{kAttendTile} * work.padded)),
              static_cast<unsigned>(work.heads), static_cast<unsigned>(work.windows));
}

/// Fills work.queries, keys and values.
void prepare_attend_all(cudaStream_t stream, const AttendAll& work, const AttendInput& in, bool bf16);
void attend_all_bf16(cudaStream_t stream, const AttendAll& work);
void attend_all_f32(cudaStream_t stream, const AttendAll& work);

}  // namespace heartmula::cuda

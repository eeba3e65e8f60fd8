#include "cuda/kernels/attend_all.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "cuda/kernels/attend_all_parts.h"

namespace heartmula::cuda {
namespace {

constexpr double kLog2E = 1.4426950408889634;

int padded_head(int64_t head_dim) {
  constexpr int64_t kLeast = 16;
  if (head_dim > kMostAttendAllHeadDim) {
    throw user_error("Heads of {} values are too large for attention on a GPU: at most {}.", head_dim,
                     kMostAttendAllHeadDim);
  }
  return static_cast<int>(std::bit_ceil(static_cast<uint64_t>(head_dim < kLeast ? kLeast : head_dim)));
}

bool is_aligned(ConstView x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.stride % 4 == 0;
}

/// Elements of a head of `rows` rows.
int64_t head_size(int64_t rows, int padded) {
  return (rows + kAttendTile - 1) / kAttendTile * kAttendTile * padded;
}

}  // namespace

int64_t attend_all_scratch_bytes(DType dtype, int64_t rows, int64_t heads, int64_t head_dim, int64_t windows) {
  return 3 * windows * heads * head_size(rows, padded_head(head_dim)) * static_cast<int64_t>(dtype_size(dtype));
}

void attend_all(cudaStream_t stream, View out, ConstView queries, ConstView keys, ConstView values, ConstView cos,
                ConstView sin, int64_t heads, int64_t windows, void* scratch) {
  if (queries.rows == 0) return;
  const int64_t head_dim = queries.cols / heads;
  const int padded = padded_head(head_dim);
  const int64_t query_rows = queries.rows / windows;
  const int64_t key_rows = keys.rows / windows;
  AttendAll work = {.windows = static_cast<int>(windows),
                    .query_rows = static_cast<int>(query_rows),
                    .key_rows = static_cast<int>(key_rows),
                    .heads = static_cast<int>(heads),
                    .head_dim = static_cast<int>(head_dim),
                    .padded = padded,
                    .query_head = head_size(query_rows, padded),
                    .key_head = head_size(key_rows, padded),
                    .out = out.data,
                    .out_stride = out.stride,
                    .out_pairs = reinterpret_cast<uintptr_t>(out.data) % 4 == 0 && out.stride % 2 == 0,
                    .scale = static_cast<float>(kLog2E / std::sqrt(static_cast<double>(head_dim)))};
  const int64_t size = windows * heads * work.key_head * static_cast<int64_t>(dtype_size(out.dtype));
  work.queries = scratch;
  work.keys = static_cast<unsigned char*>(scratch) + size;
  work.values = static_cast<unsigned char*>(scratch) + 2 * size;
  AttendInput in = {floats_of(queries), floats_of(keys), floats_of(values), queries.stride, keys.stride,
                    values.stride,      floats_of(cos),  floats_of(sin),    cos.stride,     sin.stride};
  in.eights = head_dim % 8 == 0 && std::ranges::all_of(std::array{queries, keys, values, cos, sin}, is_aligned);
  const bool bf16 = out.dtype == DType::kBF16;
  prepare_attend_all(stream, work, in, bf16);
  bf16 ? attend_all_bf16(stream, work) : attend_all_f32(stream, work);
}

}  // namespace heartmula::cuda

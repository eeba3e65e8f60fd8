// out = softmax(scale q K^T) V of rotated heads in f32, by fused multiply-adds.
//
// A block takes 64 queries of a head and walks through the keys in ascending steps of 64, as attend_all_bf16.cu does. A
// thread has four queries: of the scores four keys, 16 apart, of the output every sixteenth column. Weights go through
// shared memory, and keys and values share one place there, so that two blocks fit on a multiprocessor and one on the
// smallest of them. Rows stand four values further apart than they are long, against bank conflicts.
#include "cuda/kernels/attend_all_row.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMine = 4;                     // queries and keys of a thread
constexpr int kApart = kAttendTile / kMine;  // keys and columns of a thread
constexpr int kWeightPitch = kAttendTile + 4;

template <int kHead>
struct Tile {
  static constexpr int kPitch = kHead + 4;
  static constexpr int kFloats = kAttendTile * kPitch;
  static constexpr int kSharedBytes = (2 * kFloats + kAttendTile * kWeightPitch) * 4;

  /// Starts the copies of 64 rows.
  __device__ static void load(float* to, const float* rows) {
    constexpr int kChunks = kHead / 4;
    HEARTMULA_UNROLL
    for (int i = 0; i < kAttendTile * kChunks / kThreads; ++i) {
      const int index = i * kThreads + static_cast<int>(threadIdx.x);
      copy_async(to + index / kChunks * kPitch + index % kChunks * 4, rows + index * 4);
    }
    commit_copies();
  }
};

__device__ inline float dot_four(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

template <int kHead>
__global__ void __launch_bounds__(kThreads, 2) attend(const AttendAll work) {
  using T = Tile<kHead>;
  constexpr int kColumns = kHead / kApart;
  start_next();
  wait_for_previous();
  auto* queries = reinterpret_cast<float*>(dynamic_shared());
  float* keys = queries + T::kFloats;
  float* values = keys;
  float* weights = keys + T::kFloats;
  const int head = static_cast<int>(blockIdx.y);
  const int window = static_cast<int>(blockIdx.z);
  const int64_t index_of_head = int64_t{window} * work.heads + head;
  const int my_row = static_cast<int>(threadIdx.x) / kApart * kMine;
  const int mine = static_cast<int>(threadIdx.x) % kApart;
  const int first_row = static_cast<int>(blockIdx.x) * kAttendTile;
  const int64_t key_head = index_of_head * work.key_head;
  const float* key_rows = static_cast<const float*>(work.keys) + key_head;
  const float* value_rows = static_cast<const float*>(work.values) + key_head;
  T::load(queries,
          static_cast<const float*>(work.queries) + index_of_head * work.query_head + int64_t{first_row} * kHead);

  float sums[kMine][kColumns] = {};
  AttendRow rows[kMine];
  for (int first_key = 0; first_key < work.key_rows; first_key += kAttendTile) {
    sync_block();  // nobody needs the old values
    T::load(keys, key_rows + int64_t{first_key} * kHead);
    wait_copies<0>();
    sync_block();
    float scores[kMine][kMine] = {};
    HEARTMULA_UNROLL
    for (int d = 0; d < kHead; d += 4) {
      float4 query[kMine];
      HEARTMULA_UNROLL
      for (int i = 0; i < kMine; ++i) {
        query[i] = *reinterpret_cast<const float4*>(queries + (my_row + i) * T::kPitch + d);
      }
      HEARTMULA_UNROLL
      for (int j = 0; j < kMine; ++j) {
        const float4 key = *reinterpret_cast<const float4*>(keys + (mine + j * kApart) * T::kPitch + d);
        HEARTMULA_UNROLL
        for (int i = 0; i < kMine; ++i) scores[i][j] = dot_four(query[i], key, scores[i][j]);
      }
    }
    sync_block();  // nobody needs the keys
    T::load(values, value_rows + int64_t{first_key} * kHead);

    HEARTMULA_UNROLL
    for (int i = 0; i < kMine; ++i) {
      float greatest = -INFINITY;
      HEARTMULA_UNROLL
      for (int j = 0; j < kMine; ++j) {
        if (first_key + mine + j * kApart >= work.key_rows) scores[i][j] = -INFINITY;
        greatest = fmaxf(greatest, scores[i][j]);
      }
      HEARTMULA_UNROLL
      for (int mask = 1; mask < kApart; mask *= 2) greatest = fmaxf(greatest, shuffle_xor(greatest, mask));
      const float factor = rows[i].take(greatest, work.scale);
      HEARTMULA_UNROLL
      for (int c = 0; c < kColumns; ++c) sums[i][c] = __fmul_rn(sums[i][c], factor);
      HEARTMULA_UNROLL
      for (int j = 0; j < kMine; ++j) {
        const float weight = rows[i].weight(scores[i][j], work.scale);
        rows[i].sum += weight;
        weights[(my_row + i) * kWeightPitch + mine + j * kApart] = weight;
      }
    }
    wait_copies<0>();
    sync_block();  // values and weights are there
    HEARTMULA_UNROLL
    for (int key = 0; key < kAttendTile; key += 4) {
      float4 weight[kMine];
      HEARTMULA_UNROLL
      for (int i = 0; i < kMine; ++i) {
        weight[i] = *reinterpret_cast<const float4*>(weights + (my_row + i) * kWeightPitch + key);
      }
      HEARTMULA_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const float* value = values + key * T::kPitch + mine + c * kApart;
        const float4 four = {value[0], value[T::kPitch], value[2 * T::kPitch], value[3 * T::kPitch]};
        HEARTMULA_UNROLL
        for (int i = 0; i < kMine; ++i) sums[i][c] = dot_four(weight[i], four, sums[i][c]);
      }
    }
  }

  HEARTMULA_UNROLL
  for (int i = 0; i < kMine; ++i) {
    float sum = rows[i].sum;
    HEARTMULA_UNROLL
    for (int mask = 1; mask < kApart; mask *= 2) sum = __fadd_rn(sum, shuffle_xor(sum, mask));
    const int row = first_row + my_row + i;
    if (row >= work.query_rows) continue;
    float* out = static_cast<float*>(work.out) + (int64_t{window} * work.query_rows + row) * work.out_stride +
                 head * work.head_dim;
    HEARTMULA_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      if (mine + c * kApart < work.head_dim) out[mine + c * kApart] = __fdiv_rn(sums[i][c], sum);
    }
  }
}

template <int kHead>
void launch_head(cudaStream_t stream, const AttendAll& work) {
  launch(stream,
         {.blocks = attend_all_blocks(work), .threads = dim3(kThreads), .shared_bytes = Tile<kHead>::kSharedBytes},
         attend<kHead>, work);
}

}  // namespace

void attend_all_f32(cudaStream_t stream, const AttendAll& work) {
  switch (work.padded) {
    case 16:
      return launch_head<16>(stream, work);
    case 32:
      return launch_head<32>(stream, work);
    case 64:
      return launch_head<64>(stream, work);
    default:
      return launch_head<128>(stream, work);
  }
}

}  // namespace heartmula::cuda

// out = softmax(scale q K^T) V of rotated heads in bf16, with f32 sums, by mma.sync m16n8k16.
//
// A block takes 64 queries of a head and walks through the keys in ascending steps of 64. Of its four warps two take
// either half of the queries, one of them the first 32 keys of each step, the other the last 32: a warp's 32 queries
// share what it reads of keys and values, and shared memory, which two warps of 16 queries would wait for, keeps up.
// Scores, weights relative to the greatest score so far, weights rounded to bf16 (their sum is one of rounded weights)
// times values; at the end the sums over the later halves are added to those over the first. A row's bits depend on its
// query and on the keys alone. The next keys and values come while these are used; two or three blocks on a
// multiprocessor hide the rest. Chunks of 16 bytes are permuted by the row against bank conflicts.
#include "cuda/kernels/attend_all_row.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarpRows = kAttendTile / 2;      // queries of a warp, and keys of a step
constexpr int kRowFragments = kWarpRows / 16;   // of queries
constexpr int kScoreFragments = kWarpRows / 8;  // of keys

template <int kHead>
struct Tile {
  static constexpr int kPitch = kHead * 2;  // bytes
  static constexpr int kChunks = kHead / 8;
  static constexpr int kBytes = kAttendTile * kPitch;
  static constexpr int kBlocks = kHead > 64 ? 2 : 3;  // on a multiprocessor: as many as there are registers for
  static constexpr int kRowsOfLine = kChunks < 8 ? 8 / kChunks : 1;  // rows of 128 bytes
  // Queries, two steps of keys and values; at the end the sums over the later halves, their greatest score and weight.
  static constexpr int kSharedBytes = 5 * kBytes;
  static constexpr int kSumPitch = kHead + 8;  // floats
  static_assert(kAttendTile * kSumPitch * 4 <= kSharedBytes);

  __device__ static int place_of(int row, int chunk) {
    const int swap = row / kRowsOfLine % (kChunks < 8 ? kChunks : 8);
    return row * kPitch + (chunk ^ swap) * 16;
  }
  /// Starts the copies of 64 rows.
  __device__ static void load(unsigned char* to, const uint16_t* rows) {
    HEARTMULA_UNROLL
    for (int i = 0; i < (kAttendTile * kChunks + kThreads - 1) / kThreads; ++i) {
      const int index = i * kThreads + static_cast<int>(threadIdx.x);
      copy_async(to + place_of(index / kChunks, index % kChunks), rows + index * 8);
    }
  }
};

template <int kHead>
__global__ void __launch_bounds__(kThreads, Tile<kHead>::kBlocks) attend(const AttendAll work) {
  using T = Tile<kHead>;
  start_next();
  unsigned char* queries = dynamic_shared();
  unsigned char* stages = queries + T::kBytes;  // two of keys, then values
  const int head = static_cast<int>(blockIdx.y);
  const int window = static_cast<int>(blockIdx.z);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warp_query = warp / 2 * kWarpRows;
  const int warp_key = warp % 2 * kWarpRows;
  const int first_row = static_cast<int>(blockIdx.x) * kAttendTile;
  const int64_t index_of_head = int64_t{window} * work.heads + head;
  const auto* query_rows = static_cast<const uint16_t*>(work.queries) + index_of_head * work.query_head;
  const auto* key_rows = static_cast<const uint16_t*>(work.keys) + index_of_head * work.key_head;
  const auto* value_rows = static_cast<const uint16_t*>(work.values) + index_of_head * work.key_head;
  const auto load_step = [&](int stage, int first_key) {
    unsigned char* to = stages + stage * 2 * T::kBytes;
    T::load(to, key_rows + int64_t{first_key} * kHead);
    T::load(to + T::kBytes, value_rows + int64_t{first_key} * kHead);
    commit_copies();
  };

  wait_for_previous();
  T::load(queries, query_rows + int64_t{first_row} * kHead);
  load_step(0, 0);
  float sums[kRowFragments][kHead / 8][4] = {};
  AttendRow rows[kRowFragments][2];  // lane / 4 and 8 below
  int stage = 0;
  for (int first_key = 0; first_key < work.key_rows; first_key += kAttendTile) {
    wait_copies<0>();
    sync_block();  // the step is there, and nobody needs the one before it
    if (first_key + kAttendTile < work.key_rows) load_step(1 - stage, first_key + kAttendTile);
    const unsigned char* keys = stages + stage * 2 * T::kBytes;
    const unsigned char* values = keys + T::kBytes;
    stage = 1 - stage;

    float scores[kRowFragments][kScoreFragments][4] = {};
    HEARTMULA_UNROLL
    for (int d = 0; d < kHead / 16; ++d) {
      uint32_t query[kRowFragments][4];
      HEARTMULA_UNROLL
      for (int m = 0; m < kRowFragments; ++m) {
        load_matrices(query[m], queries + T::place_of(warp_query + m * 16 + lane % 16, d * 2 + lane / 16));
      }
      HEARTMULA_UNROLL
      for (int j = 0; j < kScoreFragments; j += 2) {
        uint32_t both[4];
        load_matrices(both, keys + T::place_of(warp_key + j * 8 + lane % 8 + lane / 16 * 8, d * 2 + lane / 8 % 2));
        HEARTMULA_UNROLL
        for (int m = 0; m < kRowFragments; ++m) {
          mma_bf16(scores[m][j], query[m], {both[0], both[1]});
          mma_bf16(scores[m][j + 1], query[m], {both[2], both[3]});
        }
      }
    }
    if (first_key + kAttendTile > work.key_rows) {
      HEARTMULA_UNROLL
      for (int j = 0; j < kScoreFragments; ++j) {
        HEARTMULA_UNROLL
        for (int i = 0; i < 4; ++i) {
          const bool inside = first_key + warp_key + j * 8 + lane % 4 * 2 + i % 2 < work.key_rows;
          HEARTMULA_UNROLL
          for (int m = 0; m < kRowFragments; ++m) scores[m][j][i] = inside ? scores[m][j][i] : -INFINITY;
        }
      }
    }

    uint32_t weights[kRowFragments][kScoreFragments][2];  // pairs of either row
    HEARTMULA_UNROLL
    for (int m = 0; m < kRowFragments; ++m) {
      HEARTMULA_UNROLL
      for (int half = 0; half < 2; ++half) {
        AttendRow& row = rows[m][half];
        float greatest = -INFINITY;
        HEARTMULA_UNROLL
        for (int j = 0; j < kScoreFragments; ++j) {
          greatest = fmaxf(greatest, fmaxf(scores[m][j][2 * half], scores[m][j][2 * half + 1]));
        }
        greatest = fmaxf(greatest, shuffle_xor(greatest, 1));
        greatest = fmaxf(greatest, shuffle_xor(greatest, 2));
        const float factor = row.take(greatest, work.scale);
        HEARTMULA_UNROLL
        for (int d = 0; d < kHead / 8; ++d) {
          sums[m][d][2 * half] = __fmul_rn(sums[m][d][2 * half], factor);
          sums[m][d][2 * half + 1] = __fmul_rn(sums[m][d][2 * half + 1], factor);
        }
        HEARTMULA_UNROLL
        for (int j = 0; j < kScoreFragments; ++j) {
          weights[m][j][half] = to_bf16_pair(row.weight(scores[m][j][2 * half], work.scale),
                                             row.weight(scores[m][j][2 * half + 1], work.scale));
          row.sum += low_bf16(weights[m][j][half]) + high_bf16(weights[m][j][half]);
        }
      }
    }

    HEARTMULA_UNROLL
    for (int step = 0; step < kWarpRows / 16; ++step) {
      HEARTMULA_UNROLL
      for (int d = 0; d < kHead / 8; d += 2) {
        uint32_t both[4];
        load_matrices_transposed(both, values + T::place_of(warp_key + step * 16 + lane % 16, d + lane / 16));
        HEARTMULA_UNROLL
        for (int m = 0; m < kRowFragments; ++m) {
          const uint32_t left[4] = {weights[m][2 * step][0], weights[m][2 * step][1], weights[m][2 * step + 1][0],
                                    weights[m][2 * step + 1][1]};
          mma_bf16(sums[m][d], left, {both[0], both[1]});
          mma_bf16(sums[m][d + 1], left, {both[2], both[3]});
        }
      }
    }
  }

  sync_block();  // nobody needs keys and values
  HEARTMULA_UNROLL
  for (int m = 0; m < kRowFragments; ++m) {
    HEARTMULA_UNROLL
    for (int half = 0; half < 2; ++half) {
      float& sum = rows[m][half].sum;
      sum = __fadd_rn(sum, shuffle_xor(sum, 1));
      sum = __fadd_rn(sum, shuffle_xor(sum, 2));
    }
  }
  const int lane_row = warp_query + lane / 4;
  auto* later = reinterpret_cast<float*>(queries) + lane_row * T::kSumPitch;
  if (warp_key > 0) {
    HEARTMULA_UNROLL
    for (int m = 0; m < kRowFragments; ++m) {
      HEARTMULA_UNROLL
      for (int half = 0; half < 2; ++half) {
        float* to = later + (m * 16 + half * 8) * T::kSumPitch;
        HEARTMULA_UNROLL
        for (int d = 0; d < kHead / 8; ++d) {
          *reinterpret_cast<float2*>(to + d * 8 + lane % 4 * 2) = {sums[m][d][2 * half], sums[m][d][2 * half + 1]};
        }
        if (lane % 4 == 0) *reinterpret_cast<float2*>(to + kHead) = {rows[m][half].greatest, rows[m][half].sum};
      }
    }
  }
  sync_block();
  if (warp_key > 0) return;
  HEARTMULA_UNROLL
  for (int m = 0; m < kRowFragments; ++m) {
    HEARTMULA_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = first_row + lane_row + m * 16 + half * 8;
      if (row >= work.query_rows) continue;
      AttendRow& mine = rows[m][half];
      const float* other = later + (m * 16 + half * 8) * T::kSumPitch;
      const float factor = mine.take(other[kHead], work.scale);
      const float other_factor = mine.weight(other[kHead], work.scale);
      const float sum = __fadd_rn(mine.sum, __fmul_rn(other[kHead + 1], other_factor));
      const auto finish = [&](float first, float second) {
        return __fdiv_rn(fmaf(second, other_factor, __fmul_rn(first, factor)), sum);
      };
      auto* out = static_cast<uint16_t*>(work.out) + (int64_t{window} * work.query_rows + row) * work.out_stride +
                  head * work.head_dim;
      HEARTMULA_UNROLL
      for (int d = 0; d < kHead / 8; ++d) {
        const int column = d * 8 + lane % 4 * 2;
        if (column >= work.head_dim) continue;
        const float2 second = *reinterpret_cast<const float2*>(other + column);
        const uint32_t pair =
            to_bf16_pair(finish(sums[m][d][2 * half], second.x), finish(sums[m][d][2 * half + 1], second.y));
        if (work.out_pairs) {
          *reinterpret_cast<uint32_t*>(out + column) = pair;
        } else {
          out[column] = static_cast<uint16_t>(pair);
          out[column + 1] = static_cast<uint16_t>(pair >> 16);
        }
      }
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

void attend_all_bf16(cudaStream_t stream, const AttendAll& work) {
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

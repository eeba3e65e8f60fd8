// out = softmax(scale q K^T) V of rotated heads in bf16, with f32 sums, by mma.sync m16n8k16.
//
// A block takes 64 queries of a head, a warp 16 of them, and walks through the keys in ascending steps of 64: scores,
// weights relative to the greatest score so far, weights rounded to bf16 (their sum is one of rounded weights) times
// values. A row's bits depend on its query and on the keys alone. Keys and values have one place each in shared memory:
// values come while scores are computed, the next keys while values are multiplied, and two or three blocks on a
// multiprocessor hide the rest. Chunks of 16 bytes are permuted by the row against bank conflicts.
#include "cuda/kernels/attend_all_row.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTileFragments = kAttendTile / 8;  // of keys in a step

template <int kHead>
struct Tile {
  static constexpr int kPitch = kHead * 2;  // bytes
  static constexpr int kChunks = kHead / 8;
  static constexpr int kBytes = kAttendTile * kPitch;
  static constexpr int kBlocks = kHead > 64 ? 2 : 3;  // on a multiprocessor: as many as there are registers for
  static constexpr int kRowsOfLine = kChunks < 8 ? 8 / kChunks : 1;  // rows of 128 bytes

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
    commit_copies();
  }
};

template <int kHead>
__global__ void __launch_bounds__(kThreads, Tile<kHead>::kBlocks) attend(const AttendAll work) {
  using T = Tile<kHead>;
  start_next();
  wait_for_previous();
  unsigned char* queries = dynamic_shared();
  unsigned char* keys = queries + T::kBytes;
  unsigned char* values = keys + T::kBytes;
  const int head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first_row = static_cast<int>(blockIdx.x) * kAttendTile;
  const int64_t key_head = head * work.key_head;
  const auto* key_rows = static_cast<const uint16_t*>(work.keys) + key_head;
  const auto* value_rows = static_cast<const uint16_t*>(work.values) + key_head;

  T::load(queries, static_cast<const uint16_t*>(work.queries) + head * work.query_head + int64_t{first_row} * kHead);
  T::load(keys, key_rows);
  wait_copies<1>();
  sync_block();
  uint32_t query[kHead / 16][4];
  HEARTMULA_UNROLL
  for (int d = 0; d < kHead / 16; ++d) {
    load_matrices(query[d], queries + T::place_of(warp * 16 + lane % 16, d * 2 + lane / 16));
  }

  float sums[kHead / 8][4] = {};
  AttendRow rows[2];  // lane / 4 and 8 below
  for (int first_key = 0; first_key < work.key_rows; first_key += kAttendTile) {
    wait_copies<0>();
    sync_block();  // the keys are there, and nobody needs the old values
    T::load(values, value_rows + int64_t{first_key} * kHead);

    float scores[kTileFragments][4] = {};
    HEARTMULA_UNROLL
    for (int d = 0; d < kHead / 16; ++d) {
      HEARTMULA_UNROLL
      for (int j = 0; j < kTileFragments; j += 2) {
        uint32_t both[4];
        load_matrices(both, keys + T::place_of(j * 8 + lane % 8 + lane / 16 * 8, d * 2 + lane / 8 % 2));
        mma_bf16(scores[j], query[d], {both[0], both[1]});
        mma_bf16(scores[j + 1], query[d], {both[2], both[3]});
      }
    }
    if (first_key + kAttendTile > work.key_rows) {
      HEARTMULA_UNROLL
      for (int j = 0; j < kTileFragments; ++j) {
        HEARTMULA_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int key = first_key + j * 8 + lane % 4 * 2 + i % 2;
          scores[j][i] = key < work.key_rows ? scores[j][i] : -INFINITY;
        }
      }
    }

    uint32_t weights[kTileFragments][2];  // pairs of either row
    HEARTMULA_UNROLL
    for (int half = 0; half < 2; ++half) {
      float greatest = -INFINITY;
      HEARTMULA_UNROLL
      for (int j = 0; j < kTileFragments; ++j) {
        greatest = fmaxf(greatest, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
      }
      greatest = fmaxf(greatest, shuffle_xor(greatest, 1));
      greatest = fmaxf(greatest, shuffle_xor(greatest, 2));
      const float factor = rows[half].take(greatest, work.scale);
      HEARTMULA_UNROLL
      for (int d = 0; d < kHead / 8; ++d) {
        sums[d][2 * half] = __fmul_rn(sums[d][2 * half], factor);
        sums[d][2 * half + 1] = __fmul_rn(sums[d][2 * half + 1], factor);
      }
      HEARTMULA_UNROLL
      for (int j = 0; j < kTileFragments; ++j) {
        weights[j][half] = to_bf16_pair(rows[half].weight(scores[j][2 * half], work.scale),
                                        rows[half].weight(scores[j][2 * half + 1], work.scale));
        rows[half].sum += low_bf16(weights[j][half]) + high_bf16(weights[j][half]);
      }
    }

    wait_copies<0>();
    sync_block();  // the values are there, and nobody needs the keys
    if (first_key + kAttendTile < work.key_rows) T::load(keys, key_rows + int64_t{first_key + kAttendTile} * kHead);
    HEARTMULA_UNROLL
    for (int step = 0; step < kAttendTile / 16; ++step) {
      const uint32_t left[4] = {weights[2 * step][0], weights[2 * step][1], weights[2 * step + 1][0],
                                weights[2 * step + 1][1]};
      HEARTMULA_UNROLL
      for (int d = 0; d < kHead / 8; d += 2) {
        uint32_t both[4];
        load_matrices_transposed(both, values + T::place_of(step * 16 + lane % 16, d + lane / 16));
        mma_bf16(sums[d], left, {both[0], both[1]});
        mma_bf16(sums[d + 1], left, {both[2], both[3]});
      }
    }
  }

  HEARTMULA_UNROLL
  for (int half = 0; half < 2; ++half) {
    float sum = rows[half].sum;
    sum = __fadd_rn(sum, shuffle_xor(sum, 1));
    sum = __fadd_rn(sum, shuffle_xor(sum, 2));
    const int row = first_row + warp * 16 + half * 8 + lane / 4;
    if (row >= work.query_rows) continue;
    auto* out = static_cast<uint16_t*>(work.out) + row * work.out_stride + head * work.head_dim;
    HEARTMULA_UNROLL
    for (int d = 0; d < kHead / 8; ++d) {
      const int column = d * 8 + lane % 4 * 2;
      if (column >= work.head_dim) continue;
      const uint32_t pair = to_bf16_pair(__fdiv_rn(sums[d][2 * half], sum), __fdiv_rn(sums[d][2 * half + 1], sum));
      if (work.out_pairs) {
        *reinterpret_cast<uint32_t*>(out + column) = pair;
      } else {
        out[column] = static_cast<uint16_t>(pair);
        out[column + 1] = static_cast<uint16_t>(pair >> 16);
      }
    }
  }
}

template <int kHead>
void launch_head(cudaStream_t stream, const AttendAll& work) {
  launch(stream,
         {.blocks =
              dim3(static_cast<unsigned>(work.query_head / (kAttendTile * kHead)), static_cast<unsigned>(work.heads)),
          .threads = dim3(kThreads),
          .shared_bytes = 3 * Tile<kHead>::kBytes},
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

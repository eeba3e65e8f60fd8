// out = epilogue(x W^T) in bf16 with f32 sums, by mma.sync m16n8k16.
//
// Contract: gemm.h. A sum is one accumulator that takes 16 of k at a time in ascending order, then zeros up to a
// multiple of 64, whatever the tile: so neither the tile, nor the number of rows, nor a row's place changes its bits.
//
// A block computes a tile of the output, a warp 64x64, 48x96 or 64x32 of it: the larger, the fewer bytes of shared
// memory a multiplication needs, and at 64x64 they are just enough for the tensor cores. Steps of 64 of k come through
// shared memory by asynchronous copies, three or four under way; a row's step is 128 bytes, its eight 16-byte chunks
// permuted by the row so that neither the copies nor ldmatrix meet in a bank. The rows of a convolution overlap: their
// addresses are computed, nothing is copied out.
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/gemm_loader.h"

namespace heartmula::cuda {
namespace {

constexpr int kStep = 64;   // of k, in shared memory
constexpr int kDepth = 16;  // of k, of one mma

template <int kTileRows, int kTileColumns, int kWarpTileRows, int kWarpTileColumns, int kStageCount, int kBlocksPerSm>
struct Tile {
  using Value = uint16_t;
  static constexpr int kStep = heartmula::cuda::kStep;
  static constexpr int kPitch = kStep * 2;  // bytes of a row in a stage
  static constexpr int kRows = kTileRows;
  static constexpr int kColumns = kTileColumns;
  static constexpr int kWarpRows = kWarpTileRows;
  static constexpr int kWarpColumns = kWarpTileColumns;
  static constexpr int kStages = kStageCount;
  static constexpr int kBlocks = kBlocksPerSm;
  static constexpr int kThreads = kRows / kWarpRows * (kColumns / kWarpColumns) * kWarp;
  static constexpr int kStageBytes = (kRows + kColumns) * kPitch;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  using Sums = GemmSums<kRows, kColumns, kThreads>;
  static_assert(Sums::kBytes <= kSharedBytes);
  static constexpr int kRowFragments = kWarpRows / 16;
  static constexpr int kColumnFragments = kWarpColumns / 8;

  /// Byte of chunk `chunk` of row `row` in a stage.
  __device__ static int place_of(int row, int chunk) { return row * kPitch + ((chunk ^ (row & 7)) * 16); }
};

using WideTile = Tile<192, 192, 48, 96, 4, 1>;  // few, large tiles: 1488 x 3072 is one wave of 132
using MiddleTile = Tile<128, 128, 64, 64, 3, 2>;
using NarrowTile = Tile<128, 64, 64, 32, 3, 3>;
using GatherTile = Tile<128, 64, 64, 32, 3, 2>;  // addresses take registers

template <typename T, bool kAligned>
__global__ void __launch_bounds__(T::kThreads, T::kBlocks) multiply(const GemmProduct p) {
  start_next();
  wait_for_previous();
  unsigned char* shared = dynamic_shared();
  const GemmTileAt tile = gemm_tile_at<T>(p);
  T::Sums::prefetch_old(p, tile);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  constexpr int kWarpsBeside = T::kColumns / T::kWarpColumns;
  const int warp_row = warp / kWarpsBeside * T::kWarpRows;
  const int warp_column = warp % kWarpsBeside * T::kWarpColumns;

  // ldmatrix: lane i names row i % 8 of matrix i / 8. Of the left side the matrices are rows 0 and 8 of k 0, then both
  // of k 8; of the right side k 0 and 8 of outputs 0, then both of outputs 8.
  const int left_row = warp_row + lane % 16;
  const int left_chunk = lane / 16;
  const int right_row = T::kRows + warp_column + lane % 8 + lane / 16 * 8;
  const int right_chunk = lane / 8 % 2;

  uint32_t left[2][T::kRowFragments][4];
  uint32_t right[2][T::kColumnFragments][2];
  const auto load = [&](int buffer, const unsigned char* stage, int step) {
    HEARTMULA_UNROLL
    for (int i = 0; i < T::kRowFragments; ++i) {
      load_matrices(left[buffer][i], stage + T::place_of(left_row + i * 16, step * 2 + left_chunk));
    }
    HEARTMULA_UNROLL
    for (int j = 0; j < T::kColumnFragments; j += 2) {
      uint32_t both[4];
      load_matrices(both, stage + T::place_of(right_row + j * 8, step * 2 + right_chunk));
      right[buffer][j][0] = both[0];
      right[buffer][j][1] = both[1];
      right[buffer][j + 1][0] = both[2];
      right[buffer][j + 1][1] = both[3];
    }
  };

  float sums[T::kRowFragments][T::kColumnFragments][4] = {};
  GemmLoader<T, kAligned> loader(p, tile);
  const int steps = (p.k + kStep - 1) / kStep;
  HEARTMULA_UNROLL
  for (int stage = 0; stage < T::kStages - 1; ++stage) {
    if (stage < steps) loader.next(shared + stage * T::kStageBytes);
    commit_copies();
  }
  wait_copies<T::kStages - 2>();
  sync_block();
  load(0, shared, 0);

  int reading = 0;
  int writing = T::kStages - 1;
  for (int s = 0; s < steps; ++s) {
    const unsigned char* stage = shared + reading * T::kStageBytes;
    HEARTMULA_UNROLL
    for (int step = 0; step < kStep / kDepth; ++step) {
      if (step == 0) {
        // Everyone has read the last of the stage that is written now: there was a barrier after it.
        if (s + T::kStages - 1 < steps) loader.next(shared + writing * T::kStageBytes);
        commit_copies();
        writing = writing + 1 == T::kStages ? 0 : writing + 1;
      }
      if (step + 1 < kStep / kDepth) {
        load((step + 1) % 2, stage, step + 1);
      } else {
        wait_copies<T::kStages - 2>();
        sync_block();
        reading = reading + 1 == T::kStages ? 0 : reading + 1;
        load((step + 1) % 2, shared + reading * T::kStageBytes, 0);
      }
      HEARTMULA_UNROLL
      for (int i = 0; i < T::kRowFragments; ++i) {
        HEARTMULA_UNROLL
        for (int j = 0; j < T::kColumnFragments; ++j) {
          mma_bf16(sums[i][j], left[step % 2][i], right[step % 2][j]);
        }
      }
    }
  }
  // The last copies were waited for, and read, before this barrier.
  sync_block();
  auto* all = reinterpret_cast<float*>(shared);
  HEARTMULA_UNROLL
  for (int i = 0; i < T::kRowFragments; ++i) T::Sums::put(all, warp_row + i * 16, warp_column, sums[i]);
  sync_block();
  T::Sums::finish(p, all, tile);
}

}  // namespace

void gemm_bf16(cudaStream_t stream, const GemmProduct& p, const GpuLimits& gpu) {
  if (!p.aligned_input) return launch_gemm<GatherTile>(stream, multiply<GatherTile, false>, p);
  const double wide = gemm_time<WideTile>(p, 1.0, gpu);
  const double middle = gemm_time<MiddleTile>(p, 0.95, gpu);
  const double narrow = gemm_time<NarrowTile>(p, 0.8, gpu);
  if (wide < middle && wide < narrow) return launch_gemm<WideTile>(stream, multiply<WideTile, true>, p);
  middle < narrow ? launch_gemm<MiddleTile>(stream, multiply<MiddleTile, true>, p)
                  : launch_gemm<NarrowTile>(stream, multiply<NarrowTile, true>, p);
}

}  // namespace heartmula::cuda

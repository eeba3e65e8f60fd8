// out = epilogue(x W^T) in f32, by fused multiply-adds.
//
// Contract: gemm.h. A sum is one accumulator that takes k in ascending order, then zeros up to a multiple of 16,
// whatever the tile. Tensor cores are of no use here: what they add is not rounded like an FMA, 10 to 40 times worse.
//
// A block computes 128 rows of 128 or 64 outputs, a thread eight rows, 16 apart, of eight or four outputs, 16 apart:
// 16 reads of 16 bytes from shared memory feed 256 multiplications. A row's 16 values of k stand 80 bytes from the
// next row's, so that eight threads that read eight rows meet every bank once.
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/kernels/gemm_loader.h"

namespace heartmula::cuda {
namespace {

constexpr int kApart = 16;  // rows and columns of a thread

template <int kTileColumns, int kStageCount, int kBlocksPerSm>
struct Tile {
  using Value = float;
  static constexpr int kRows = 128;
  static constexpr int kColumns = kTileColumns;
  static constexpr int kThreads = 256;
  static constexpr int kStep = 16;   // of k
  static constexpr int kPitch = 80;  // bytes of a row in a stage
  static constexpr int kStages = kStageCount;
  static constexpr int kBlocks = kBlocksPerSm;
  static constexpr int kStageBytes = (kRows + kColumns) * kPitch;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  using Sums = GemmSums<kRows, kColumns, kThreads>;
  static_assert(Sums::kBytes <= kSharedBytes);

  __device__ static int place_of(int row, int chunk) { return row * kPitch + chunk * 16; }
};

using WideTile = Tile<128, 4, 2>;
using NarrowTile = Tile<64, 4, 2>;

template <typename T, bool kAligned>
__global__ void __launch_bounds__(T::kThreads, T::kBlocks) multiply(const GemmProduct p) {
  start_next();
  wait_for_previous();
  unsigned char* shared = dynamic_shared();
  const GemmTileAt tile = gemm_tile_at<T>(p);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int my_row = lane / 8 + warp / 2 * 4;
  const int my_column = lane % 8 + warp % 2 * 8;
  constexpr int kMyRows = T::kRows / kApart;
  constexpr int kMyColumns = T::kColumns / kApart;

  float sums[kMyRows][kMyColumns] = {};
  GemmLoader<T, kAligned> loader(p, tile);
  const int steps = (p.k + T::kStep - 1) / T::kStep;
  HEARTMULA_UNROLL
  for (int stage = 0; stage < T::kStages - 1; ++stage) {
    if (stage < steps) loader.next(shared + stage * T::kStageBytes);
    commit_copies();
  }
  for (int s = 0; s < steps; ++s) {
    wait_copies<T::kStages - 2>();
    sync_block();  // the step has come, and everyone is done with the stage that is written next
    if (s + T::kStages - 1 < steps) loader.next(shared + (s + T::kStages - 1) % T::kStages * T::kStageBytes);
    commit_copies();
    const unsigned char* stage = shared + s % T::kStages * T::kStageBytes;
    const unsigned char* left = stage + my_row * T::kPitch;
    const unsigned char* right = stage + (T::kRows + my_column) * T::kPitch;
    HEARTMULA_KEEP_LOOP
    for (int k = 0; k < T::kStep / 4; ++k) {
      float4 x[kMyRows];
      HEARTMULA_UNROLL
      for (int i = 0; i < kMyRows; ++i) {
        x[i] = *reinterpret_cast<const float4*>(left + i * kApart * T::kPitch + k * 16);
      }
      HEARTMULA_UNROLL
      for (int j = 0; j < kMyColumns; ++j) {
        const float4 w = *reinterpret_cast<const float4*>(right + j * kApart * T::kPitch + k * 16);
        HEARTMULA_UNROLL
        for (int i = 0; i < kMyRows; ++i) sums[i][j] = fmaf(x[i].x, w.x, sums[i][j]);
        HEARTMULA_UNROLL
        for (int i = 0; i < kMyRows; ++i) sums[i][j] = fmaf(x[i].y, w.y, sums[i][j]);
        HEARTMULA_UNROLL
        for (int i = 0; i < kMyRows; ++i) sums[i][j] = fmaf(x[i].z, w.z, sums[i][j]);
        HEARTMULA_UNROLL
        for (int i = 0; i < kMyRows; ++i) sums[i][j] = fmaf(x[i].w, w.w, sums[i][j]);
      }
    }
  }
  sync_block();
  auto* all = reinterpret_cast<float*>(shared);
  HEARTMULA_UNROLL
  for (int i = 0; i < kMyRows; ++i) {
    HEARTMULA_UNROLL
    for (int j = 0; j < kMyColumns; ++j) {
      all[(my_row + i * kApart) * T::Sums::kPitch + my_column + j * kApart] = sums[i][j];
    }
  }
  sync_block();
  T::Sums::finish(p, all, tile);
}

}  // namespace

void gemm_f32(cudaStream_t stream, const GemmProduct& p, const GpuLimits& gpu) {
  if (!p.aligned_input) return launch_gemm<NarrowTile>(stream, multiply<NarrowTile, false>, p);
  const double wide = gemm_time<WideTile>(p, 1.0, gpu);
  const double narrow = gemm_time<NarrowTile>(p, 0.85, gpu);
  wide <= narrow ? launch_gemm<WideTile>(stream, multiply<WideTile, true>, p)
                 : launch_gemm<NarrowTile>(stream, multiply<NarrowTile, true>, p);
}

}  // namespace heartmula::cuda

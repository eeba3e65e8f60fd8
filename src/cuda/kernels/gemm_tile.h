// Which block of a product's kernel computes which tile.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/gemm_product.h"
#include "cuda/launch.h"

namespace heartmula::cuda {

/// The first row and column of a block's tile.
struct GemmTileAt {
  int32_t row = 0;
  int32_t column = 0;
};

template <typename Tile>
__device__ GemmTileAt gemm_tile_at(const GemmProduct& p) {
  const int block = static_cast<int>(blockIdx.x);
  const int row_tiles = (p.rows + Tile::kRows - 1) / Tile::kRows;
  const int column_tiles = (p.n + Tile::kColumns - 1) / Tile::kColumns;
  const int row = p.rows_first ? block % row_tiles : block / column_tiles;
  const int column = p.rows_first ? block / row_tiles : block % column_tiles;
  return {row * Tile::kRows, column * Tile::kColumns};
}

/// A block for each tile.
template <typename Tile>
void launch_gemm(cudaStream_t stream, void (*kernel)(GemmProduct), const GemmProduct& p) {
  launch(stream,
         {.blocks = dim3(static_cast<unsigned>(gemm_blocks(p, Tile::kRows, Tile::kColumns))),
          .threads = dim3(Tile::kThreads),
          .shared_bytes = Tile::kSharedBytes},
         kernel, p);
}

}  // namespace heartmula::cuda

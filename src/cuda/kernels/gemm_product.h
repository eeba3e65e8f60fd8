// What the kernels of products are given, checked and laid out by gemm.cpp.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/kernels/gemm.h"

namespace heartmula::cuda {

/// Where results go: rows of f32 or bf16.
struct GemmTarget {
  void* data = nullptr;  // or none
  int64_t stride = 0;    // elements
  bool bf16 = false;
};

struct GemmProduct {
  const void* x = nullptr;
  int64_t x_stride = 0;  // elements
  int64_t tap_step = 0;  // elements from a tap to the next
  int32_t rows = 0;
  int32_t channels = 0;
  int32_t k = 0;

  const void* w = nullptr;
  int64_t w_stride = 0;  // elements
  int32_t n = 0;         // rows of W

  GemmTarget out = {};
  GemmTarget copy = {};
  const float* bias = nullptr;
  const float* gain = nullptr;
  float prelu = 1.0F;  // 1: none
  bool add = false;
  bool gate = false;

  bool aligned_input = false;   // 16 bytes of x are one tap's, at aligned addresses
  bool aligned_output = false;  // rows of out and copy begin at multiples of 16 bytes
  bool rows_first = false;      // blocks of all rows before those of the next columns
};

/// A shape of tiles, and how fast it is where it fills the device.
struct GemmTileCost {
  int rows = 0;
  int columns = 0;
  int blocks_per_sm = 0;
  int shared_bytes = 0;
  double rate = 1.0;  // relative
};

int64_t gemm_blocks(const GemmProduct& product, int tile_rows, int tile_columns);
/// The time of a product in tiles of this shape, in units that compare shapes. Every shape gives the same bits.
double gemm_time(const GemmProduct& product, const GemmTileCost& tile, const GpuLimits& gpu);
template <typename Tile>
double gemm_time(const GemmProduct& product, double rate, const GpuLimits& gpu) {
  return gemm_time(product, {Tile::kRows, Tile::kColumns, Tile::kBlocks, Tile::kSharedBytes, rate}, gpu);
}

void gemm_bf16(cudaStream_t stream, const GemmProduct& product, const GpuLimits& gpu);
/// residual_unit_gemm where its channels, alignment and shared memory suit the one kernel; else false.
bool residual_unit_bf16(cudaStream_t stream, const GemmProduct& first, const GemmProduct& second, const GpuLimits& gpu);
void gemm_f32(cudaStream_t stream, const GemmProduct& product, const GpuLimits& gpu);

}  // namespace heartmula::cuda

#include "emulated/warp.h"

#include <bit>
#include <cstring>

namespace heartmula::cuda::emulated {
namespace {

struct Product {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

struct Load {
  uint32_t* r;
  const uint16_t* row;
};

double low(uint32_t pair) {
  return std::bit_cast<float>(pair << 16);
}
double high(uint32_t pair) {
  return std::bit_cast<float>(pair & 0xFFFF0000U);
}

void full_warp(size_t lanes, const char* what) {
  if (lanes != kLanes) current_block->die(std::string(what) + " needs a whole warp");
}

// Lane 4 g + t holds, as the PTX ISA has it, of a the rows g and g + 8, columns 2t, 2t + 1 and those plus 8; of b the
// same columns as rows and column g; of d the rows g and g + 8, columns 2t and 2t + 1.
void multiply(std::span<void* const> lanes) {
  double a[16][16];
  double b[16][8];
  double d[16][8];
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const auto& mine = *static_cast<const Product*>(lanes[lane]);
    const size_t g = lane / 4;
    const size_t t = 2 * (lane % 4);
    for (size_t part = 0; part < 4; ++part) {
      const size_t row = g + 8 * (part % 2);
      const size_t k = t + 8 * (part / 2);
      a[row][k] = low(mine.a[part]);
      a[row][k + 1] = high(mine.a[part]);
    }
    for (size_t part = 0; part < 2; ++part) {
      b[t + 8 * part][g] = low(mine.b[part]);
      b[t + 8 * part + 1][g] = high(mine.b[part]);
    }
    for (size_t part = 0; part < 4; ++part) d[g + 8 * (part / 2)][t + part % 2] = static_cast<double>(mine.d[part]);
  }
  for (size_t row = 0; row < 16; ++row) {
    for (size_t k = 0; k < 16; ++k) {
      for (size_t column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const auto& mine = *static_cast<const Product*>(lanes[lane]);
    for (size_t part = 0; part < 4; ++part) {
      mine.d[part] = static_cast<float>(d[lane / 4 + 8 * (part / 2)][2 * (lane % 4) + part % 2]);
    }
  }
}

}  // namespace

void mma_bf16(float* d, const uint32_t* a, const uint32_t* b) {
  Product mine = {d, a, b};
  if (!current_block->meet_in_warp(&mine, "mma_bf16")) return;
  const auto lanes = current_block->warp_operands();
  full_warp(lanes.size(), "mma_bf16");
  multiply(lanes);
  current_block->release_warp();
}

// Lane 8 j + i gives row i of matrix j; lane l gets of each matrix row l / 4, columns 2 (l % 4) and the next, or these
// as rows of that column.
void load_matrices(uint32_t* r, const void* row, bool transposed) {
  const char* what = transposed ? "load_matrices_transposed" : "load_matrices";
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) current_block->die(std::string(what) + " needs rows aligned to 16");
  Load mine = {r, static_cast<const uint16_t*>(row)};
  if (!current_block->meet_in_warp(&mine, what)) return;
  const auto lanes = current_block->warp_operands();
  full_warp(lanes.size(), what);
  const auto element = [&](size_t matrix, size_t line, size_t column) -> uint32_t {
    return static_cast<const Load*>(lanes[8 * matrix + line])->row[column];
  };
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const size_t line = lane / 4;
    const size_t pair = 2 * (lane % 4);
    for (size_t matrix = 0; matrix < 4; ++matrix) {
      const uint32_t first = transposed ? element(matrix, pair, line) : element(matrix, line, pair);
      const uint32_t second = transposed ? element(matrix, pair + 1, line) : element(matrix, line, pair + 1);
      static_cast<const Load*>(lanes[lane])->r[matrix] = first | second << 16;
    }
  }
  current_block->release_warp();
}

}  // namespace heartmula::cuda::emulated

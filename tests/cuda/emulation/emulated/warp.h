// What the 32 lanes of a warp do together: the last of them does it for all.
#pragma once

#include <cstdint>
#include <type_traits>

#include "emulated/block.h"

namespace heartmula::cuda::emulated {

template <typename T>
struct Shuffle {
  T value;
  int from;  // lane
  T result;
};

template <typename T>
T shuffle(T value, int from, const char* what) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "no instruction moves this type");
  Shuffle<T> mine = {value, from, value};
  if (current_block->meet_in_warp(&mine, what)) {
    const auto lanes = current_block->warp_operands();
    for (void* lane : lanes) {
      auto& operand = *static_cast<Shuffle<T>*>(lane);
      const auto other = static_cast<size_t>(operand.from % kLanes);
      if (other < lanes.size()) operand.result = static_cast<const Shuffle<T>*>(lanes[other])->value;
    }
    current_block->release_warp();
  }
  return mine.result;
}

/// m16n8k16: exact products; a product's 16 and the accumulator are added in double and rounded once.
void mma_bf16(float* d, const uint32_t* a, const uint32_t* b);

/// Four 8x8 matrices of 16-bit values.
void load_matrices(uint32_t* r, const void* row, bool transposed);

}  // namespace heartmula::cuda::emulated

// Where the blocks of keys and values lie (KeyValues in kernels.h).
#pragma once

#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

HWY_INLINE int64_t place_of(const KeyValues& kv, int64_t block) {
  return kv.places == nullptr ? block : kv.places[block];
}

template <typename Word>
HWY_INLINE Word* keys_of(const KeyValues& kv, int64_t block) {
  return reinterpret_cast<Word*>(kv.keys + place_of(kv, block) * kv.key_stride);
}

template <typename Word>
HWY_INLINE Word* values_of(const KeyValues& kv, int64_t block) {
  return reinterpret_cast<Word*>(kv.values + place_of(kv, block) * kv.value_stride);
}

/// Positions that a block has room for.
HWY_INLINE int64_t positions_of(const KeyValues& kv, int64_t block) {
  return least(kKeyBlock, kv.capacity - block * kKeyBlock);
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

// Hash table from keys to the positions of elements that the owner keeps in an array.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace heartmula {

/// Open addressing with a fixed number of slots. std::unordered_map took three times as long to fill and to ask, half
/// of the time that it took to open a tokenizer.
class HashIndex {
 public:
  static constexpr int32_t kNone = -1;

  explicit HashIndex(size_t max_count = 0) : slots_(std::bit_ceil(2 * max_count + 1)) {}

  /// The position of the element with this hash for which is_same(position) holds, or kNone.
  template <typename IsSame>
  int32_t find(uint64_t hash, IsSame is_same) const {
    return slots_[slot_of(hash, is_same)].position;
  }

  /// Sets the position of the element, new or known.
  template <typename IsSame>
  void set(uint64_t hash, int32_t position, IsSame is_same) {
    slots_[slot_of(hash, is_same)] = {tag_of(hash), position};
  }

 private:
  struct Slot {
    uint32_t tag = 0;
    int32_t position = kNone;
  };

  static uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

  /// Where the element is or would be.
  template <typename IsSame>
  size_t slot_of(uint64_t hash, IsSame is_same) const {
    const size_t mask = slots_.size() - 1;
    size_t i = hash & mask;
    while (slots_[i].position != kNone && !(slots_[i].tag == tag_of(hash) && is_same(slots_[i].position))) {
      i = (i + 1) & mask;
    }
    return i;
  }

  std::vector<Slot> slots_;
};

}  // namespace heartmula

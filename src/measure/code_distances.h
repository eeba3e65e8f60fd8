// How far one song's codes are from another's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "heartmula/frame.h"

namespace heartmula {

struct CodeDistances {
  int64_t frames = 0;                       ///< that were compared: the common length
  int64_t equal_frames = 0;                 ///< with all codes equal
  std::optional<int64_t> first_difference;  ///< the first frame that is not, from 0; a longer one goes on there, too
  std::array<int64_t, kCodebooks> equal_codes = {};  ///< in each codebook
};

CodeDistances code_distances(std::span<const Frame> a, std::span<const Frame> b);

}  // namespace heartmula

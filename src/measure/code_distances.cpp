#include "measure/code_distances.h"

#include <algorithm>

namespace heartmula {

CodeDistances code_distances(std::span<const Frame> a, std::span<const Frame> b) {
  CodeDistances distances;
  distances.frames = static_cast<int64_t>(std::min(a.size(), b.size()));
  for (int64_t at = 0; at < distances.frames; ++at) {
    const Frame& x = a[static_cast<size_t>(at)];
    const Frame& y = b[static_cast<size_t>(at)];
    for (size_t codebook = 0; codebook < x.size(); ++codebook) {
      if (x[codebook] == y[codebook]) ++distances.equal_codes[codebook];
    }
    if (x == y) {
      ++distances.equal_frames;
    } else if (!distances.first_difference) {
      distances.first_difference = at;
    }
  }
  if (!distances.first_difference && a.size() != b.size()) distances.first_difference = distances.frames;
  return distances;
}

}  // namespace heartmula

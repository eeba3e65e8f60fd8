#include "decode/drafter.h"

#include <cmath>

namespace heartmula {

int32_t drawn_code(std::span<const int32_t> tokens, std::span<const double> weights, const SamplingNoise& noise,
                   int64_t frame, int64_t codebook) {
  int32_t best = -1;
  double best_score = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const double score =
        std::log(weights[i]) - noise.log_exponential(static_cast<uint32_t>(frame), static_cast<uint32_t>(codebook),
                                                     static_cast<uint32_t>(tokens[i]));
    if (best >= 0 && score <= best_score) continue;
    best = tokens[i];
    best_score = score;
  }
  return best;
}

}  // namespace heartmula

#include "sampling/noise.h"

#include "base/error.h"
#include "base/random.h"
#include "sampling/portable_log.h"

namespace heartmula {

double PhiloxNoise::log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const {
  const auto words =
      philox4x32({token >> 2, codebook, frame, static_cast<uint32_t>(RandomDomain::kCodes)}, philox_key(seed_));
  return portable_log(-portable_log(open_uniform(words[token & 3])));
}

double TapeNoise::log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const {
  const size_t draw = static_cast<size_t>(frame) * static_cast<size_t>(codebooks_) + codebook;
  const size_t index = draw * static_cast<size_t>(vocabulary_) + token;
  if (index >= draws_.size()) throw user_error("the noise tape ends before frame {}", frame);
  return portable_log(draws_[index]);
}

}  // namespace heartmula

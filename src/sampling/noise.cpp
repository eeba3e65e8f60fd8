#include "sampling/noise.h"

#include "base/error.h"
#include "sampling/portable_log.h"

namespace heartmula {

double PhiloxNoise::log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const {
  const auto words =
      philox4x32({token >> 2, codebook, frame, static_cast<uint32_t>(RandomDomain::kCodes)}, philox_key(seed_));
  return portable_log(-portable_log(open_uniform(words[token & 3])));
}

std::array<uint32_t, 4> RoundNoise::words(uint32_t frame, uint32_t codebook, uint32_t block) const {
  return philox4x32({block, codebook | round_ << 3, frame, static_cast<uint32_t>(domain_)}, philox_key(seed_));
}

double RoundNoise::log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const {
  return portable_log(-portable_log(open_uniform(words(frame, codebook, token >> 2)[token & 3])));
}

double RoundNoise::uniform(uint32_t frame, uint32_t codebook) const {
  return open_uniform(words(frame, codebook, 0)[0]);
}

double TapeNoise::log_exponential(uint32_t frame, uint32_t codebook, uint32_t token) const {
  const size_t draw = static_cast<size_t>(frame) * static_cast<size_t>(codebooks_) + codebook;
  const size_t index = draw * static_cast<size_t>(vocabulary_) + token;
  if (index >= draws_.size()) throw user_error("the noise tape ends before frame {}", frame);
  return portable_log(draws_[index]);
}

}  // namespace heartmula

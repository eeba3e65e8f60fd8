// A language model of random weights, loaded, and what it says.
#pragma once

#include "cpu/cpu_ops.h"
#include "lm/session.h"
#include "reference/random_checkpoint.h"

namespace heartmula {

struct LmSizes {
  TransformerConfig backbone;
  TransformerConfig decoder;
  int64_t text_vocabulary = 0;
  int64_t audio_vocabulary = 0;
};

inline LmConfig config_of(const LmSizes& sizes) {
  LmConfig config;
  config.source = "config.json";
  config.backbone = sizes.backbone;
  config.decoder = sizes.decoder;
  config.text_vocab_size = sizes.text_vocabulary;
  config.audio_vocab_size = sizes.audio_vocabulary;
  config.muq_dim = 3;
  return config;
}

/// Codes and ids that repeat nothing.
inline Frame some_frame(int64_t index, int64_t vocabulary) {
  Frame frame;
  for (int64_t q = 0; q < kCodebooks; ++q) {
    frame[static_cast<size_t>(q)] = static_cast<int32_t>((index * index * 7 + index * 3 + q * 5 + 2) % vocabulary);
  }
  return frame;
}

inline std::vector<Frame> some_frames(int64_t count, int64_t vocabulary) {
  std::vector<Frame> frames;
  for (int64_t i = 0; i < count; ++i) frames.push_back(some_frame(i, vocabulary));
  return frames;
}

inline std::vector<int32_t> some_prompt(int64_t length, int64_t vocabulary) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(static_cast<int32_t>((i * i + 11 * i + 1) % vocabulary));
  return ids;
}

/// The logits of all codebooks when the next frame is `frame`: [8][streams * V].
inline std::vector<std::vector<float>> all_logits(LmSession& session, const Frame& frame) {
  const auto copy = [](std::span<const float> logits) { return std::vector<float>(logits.begin(), logits.end()); };
  std::vector<std::vector<float>> logits = {copy(session.first_logits())};
  for (int64_t q = 1; q < kCodebooks; ++q) {
    logits.push_back(copy(session.next_logits(q, frame[static_cast<size_t>(q - 1)])));
  }
  return logits;
}

/// Of one row of guidance.
inline std::vector<float> of_stream(const std::vector<float>& logits, int64_t stream, int64_t vocabulary) {
  return {logits.begin() + stream * vocabulary, logits.begin() + (stream + 1) * vocabulary};
}

}  // namespace heartmula

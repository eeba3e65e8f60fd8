#include "decode/frame_loop.h"

#include <algorithm>

#include "base/error.h"

namespace heartmula {

int64_t longest_audio_ms(const LmConfig& config, const Prompt& prompt) {
  return (config.backbone.max_seq_len - static_cast<int64_t>(prompt.text_ids.size())) * kFrameMs;
}

int64_t required_context(const LmConfig& config, const Prompt& prompt, const FrameLoopSettings& settings) {
  const auto prompt_length = static_cast<int64_t>(prompt.text_ids.size());
  const int64_t needed = prompt_length + settings.max_frames() - 1;  // the last frame is never fed
  const int64_t context = config.backbone.max_seq_len;
  if (prompt_length >= context) {
    throw user_error("tags and lyrics make {} tokens, but the model's context holds {}: shorten the lyrics",
                     prompt_length, context);
  }
  if (needed > context) {
    throw user_error(
        "a prompt of {} tokens and {} frames exceed the model's context of {}: shorten the lyrics or use "
        "--max_audio_length_ms {} or less",
        prompt_length, settings.max_frames() - 1, context, longest_audio_ms(config, prompt));
  }
  for (const int32_t id : prompt.text_ids) {
    if (id >= 0 && id < config.text_vocab_size) continue;
    throw user_error(
        "{}: text_vocab_size is {}, but tags and lyrics make token {}; is the tokenizer of another checkpoint?",
        config.source, config.text_vocab_size, id);
  }
  return needed;
}

void check_codes(const LmConfig& config, std::span<const Frame> frames, const std::string& name) {
  for (size_t t = 0; t < frames.size(); ++t) {
    for (const int32_t code : frames[t]) {
      if (code >= 0 && code < config.audio_vocab_size) continue;
      throw user_error("{}: frame {} holds code {}, but the model knows 0 to {}", name, t, code,
                       config.audio_vocab_size - 1);
    }
  }
}

StopReason generate_frames(LmSession& session, const Prompt& prompt, std::span<const Frame> begin,
                           const FrameLoopSettings& settings, const SamplingNoise& noise, const FrameSink& sink) {
  if (settings.min_frames() > 1 && settings.audio_eos_id <= 0) {
    throw user_error("audio_eos_id is {}: every code ends the song, so it cannot be kept from ending",
                     settings.audio_eos_id);
  }
  const auto begin_frames = static_cast<int64_t>(begin.size());
  if (begin_frames >= settings.max_frames()) return StopReason::kLength;
  session.prefill(prompt.text_ids, prompt.reference_index, begin, prompt.muq_embed);
  session.begin_sampling({settings.sampling, settings.min_frames(), settings.audio_eos_id}, noise, begin_frames);
  for (int64_t index = begin_frames;; ++index) {
    const Frame frame = session.next_frame(settings.max_frames());
    const bool ends = std::any_of(frame.begin(), frame.end(), [&](int32_t c) { return c >= settings.audio_eos_id; });
    if (index > 0 && ends) return StopReason::kEos;
    sink(index, frame);
    if (index + 1 == settings.max_frames()) return StopReason::kLength;
  }
}

}  // namespace heartmula

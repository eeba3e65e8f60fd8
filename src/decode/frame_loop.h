// From a prompt to frames: the loop of lm.md B7.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lm/heartmula.h"
#include "sampling/sampler.h"
#include "text/prompt.h"

namespace heartmula {

inline constexpr int64_t kDefaultAudioLengthMs = 240000;

struct FrameLoopSettings {
  SamplingSettings sampling;
  int64_t max_audio_length_ms =
      kDefaultAudioLengthMs;        // at most max_audio_length_ms / 80 + 1 frames, as in the reference
  int32_t audio_eos_id = 0;         // a frame with a code from here on ends the song
  int64_t min_audio_length_ms = 0;  // the song does not end by itself before
  bool ignore_eos = false;          // nor at all: it is as long as it may be

  int64_t max_frames() const { return max_audio_length_ms / kFrameMs + 1; }
  int64_t min_frames() const { return ignore_eos ? max_frames() : (min_audio_length_ms + kFrameMs - 1) / kFrameMs; }
};

/// Positions of the backbone that prompt and frames need. Throws Error(kUser) if they exceed the model's context, or if
/// the model has no embedding for a token of the prompt.
int64_t required_context(const LmConfig& config, const Prompt& prompt, const FrameLoopSettings& settings);

/// The longest song after this prompt, as --max_audio_length_ms.
int64_t longest_audio_ms(const LmConfig& config, const Prompt& prompt);

/// Throws Error(kUser) that begins with `name` if the model does not know a code of `frames`.
void check_codes(const LmConfig& config, std::span<const Frame> frames, const std::string& name);

/// Called with each frame as soon as it is made.
using FrameSink = std::function<void(int64_t index, const Frame& frame)>;

/// Generates the frames after `begin` (kept from an earlier run, or empty). The first frame of a song is never looked
/// at for its end; every later frame with any code >= audio_eos_id ends the song and is dropped.
///
/// In frames 1 to min_frames() - 1 codes >= audio_eos_id are not sampled: they are taken out before the k likeliest are
/// chosen, as if the vocabulary ended there. The frames are those of plain decoding until the first one in which such a
/// code is among its codebook's k likeliest, for then another takes its place; and from min_frames() on those that
/// plain decoding makes after the same beginning. Throws Error(kUser) if no code would be left.
StopReason generate_frames(LmSession& session, const Prompt& prompt, std::span<const Frame> begin,
                           const FrameLoopSettings& settings, const SamplingNoise& noise, const FrameSink& sink);

}  // namespace heartmula

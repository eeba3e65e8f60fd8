// Songs that were made before and are read again, frame by frame, to learn what a language model thinks of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/models.h"
#include "decode/frame_loop.h"
#include "sampling/sampler.h"
#include "text/prompt.h"

namespace heartmula {

struct MadeSong {
  std::string name;  // of its codes file, for messages
  std::vector<Frame> frames;
  Prompt prompt;
  FrameLoopSettings settings;  // as long as these frames
  SamplingRule rule;
  uint64_t seed = 0;
  std::string guesses = {};  // "--lossy topk", where guesses changed it, or empty
};

/// The song of a codes file that holds its request, at most `most_frames` of it (0: all). Throws Error(kUser) for codes
/// without a request, of another language model, that go on from others, or that do not fit its context.
MadeSong read_made_song(Models& models, const std::string& path, int64_t most_frames);

/// What a code is drawn from: tokens after top-k, in ascending order, and their guided logits. As sample_code keeps
/// them.
struct KeptCodes {
  std::vector<int32_t> tokens;
  std::vector<float> logits;

  void keep(const SamplingSettings& settings, std::span<const float> guided, int64_t allowed);
};

}  // namespace heartmula

// Euler steps from noise to latents with guidance and in-context continuation (codec.md A5).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "codec/velocity_transformer.h"

namespace heartmula {

struct FlowSettings {
  int64_t steps = 10;
  double guidance = 1.25;  // applied above 1

  int64_t batch() const { return guidance > 1.0 ? 2 : 1; }
};

/// The f32 times 0 = t_0 < ... < t_N = 1, made from both ends as torch.linspace does.
std::vector<float> flow_times(int64_t steps);

/// Called after each Euler step.
using StepCallback = std::function<void(int64_t done, int64_t total)>;

class FlowSampler {
 public:
  FlowSampler(Ops& ops, const VelocityTransformer& transformer, const CodecConfig& config, int64_t frames,
              const FlowSettings& settings);

  /// latents [frames, C], f32, from noise [frames, C] and conditioning [frames / 2, dim]. The first rows of the window
  /// repeat the `context` [rows, C] (none in the first window).
  void sample(View latents, ConstView noise, ConstView conditioning, ConstView context, const StepCallback& step_done);

 private:
  Ops& ops_;
  const VelocityTransformer& transformer_;
  CodecConfig config_;
  int64_t frames_;
  FlowSettings settings_;
  std::shared_ptr<VelocityTransformer::Buffers> buffers_;
  Tensor velocity_;    // [batch * frames, C]
  Tensor in_context_;  // [frames, C]: the context, then zeros
  Tensor zeros_;       // [frames, dim]
};

}  // namespace heartmula

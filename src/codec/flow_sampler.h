// From noise to latents with guidance and in-context continuation (codec.md A5): runs a schedule of evaluations
// (flow_schedule.h).
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "codec/flow_schedule.h"
#include "codec/velocity_transformer.h"

namespace heartmula {

/// Called after each evaluation.
using StepCallback = std::function<void(int64_t done, int64_t total)>;

/// A window on its way through the flow; all f32.
struct FlowWindow {
  View latents;            // [frames, C], the result
  ConstView noise;         // [frames, C]
  ConstView conditioning;  // [frames / 2, dim]
  ConstView context = {};  // [rows, C]: what the window begins with, or nothing
};

class FlowSampler {
 public:
  /// For up to `windows` windows at a time, of up to `frames` latents each. Throws Error(kUser) if settings do not go
  /// together.
  FlowSampler(Ops& ops, const VelocityTransformer& transformer, const CodecConfig& config, int64_t frames,
              const FlowSettings& settings, int64_t windows = 1);

  int64_t evaluations() const { return static_cast<int64_t>(schedule_.size()); }
  /// Windows of the same length; each gets the latents that it gets alone.
  void sample(std::span<const FlowWindow> windows, const StepCallback& step_done);

 private:
  void put_inputs(std::span<const FlowWindow> windows);
  /// `velocity` [2 * rows, C] or [rows, C]: its first rows become that of the evaluation, with guidance.
  void evaluate(const FlowEvaluation& evaluation, const VelocityTransformer::Modulation& modulation,
                std::span<const FlowWindow> windows, View velocity);

  Ops& ops_;
  const VelocityTransformer& transformer_;
  CodecConfig config_;
  FlowSettings settings_;
  std::vector<FlowEvaluation> schedule_;
  std::shared_ptr<VelocityTransformer::Buffers> buffers_;
  std::vector<VelocityTransformer::Modulation> modulations_;  // of the schedule's evaluations
  bool is_modulated_ = false;
  // Of all windows, below each other; what no evaluation of the schedule needs is empty.
  Tensor state_;            // [windows * frames, C]
  Tensor state_before_;     // of the evaluation before
  Tensor velocity_;         // [windows * frames, C], then those without condition
  Tensor velocity_before_;  // of the evaluation before
  Tensor difference_;       // [windows * frames, C]: what guidance adds to, as it was taken last
};

}  // namespace heartmula

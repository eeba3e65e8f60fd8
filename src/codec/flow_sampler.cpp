#include "codec/flow_sampler.h"

#include <algorithm>
#include <utility>

namespace heartmula {
namespace {

constexpr float kSigmaMin = 1e-6f;

}  // namespace

FlowSampler::FlowSampler(Ops& ops, const VelocityTransformer& transformer, const CodecConfig& config, int64_t frames,
                         const FlowSettings& settings, int64_t windows)
    : ops_(ops), transformer_(transformer), config_(config), settings_(settings), schedule_(flow_schedule(settings)) {
  const int64_t items = settings.guided() ? 2 * windows : windows;
  const auto any = [this](const auto& is_so) { return std::ranges::any_of(schedule_, is_so); };
  const auto allocate = [&](bool needed, int64_t count) {
    return needed ? ops.allocate(DType::kF32, count * frames, config.out_channels) : Tensor();
  };
  buffers_ = transformer.make_buffers(ops, items, frames);
  modulations_ = transformer.make_modulations(ops, schedule_.size());
  state_ = allocate(true, windows);
  state_before_ = allocate(any([](const FlowEvaluation& e) { return e.x_before_weight != 0; }), windows);
  velocity_ = allocate(true, items);
  velocity_before_ = allocate(any([](const FlowEvaluation& e) { return e.v_before_weight != 0; }), items);
  const bool reuses = settings.guided() && any([](const FlowEvaluation& e) { return !e.takes_difference; });
  difference_ = allocate(reuses, windows);
}

void FlowSampler::put_inputs(std::span<const FlowWindow> windows) {
  const auto count = static_cast<int64_t>(windows.size());
  const int64_t channels = config_.out_channels;
  for (int64_t item = 0; item < (settings_.guided() ? 2 * count : count); ++item) {
    const FlowWindow& window = windows[static_cast<size_t>(item % count)];
    const View input = transformer_.input(*buffers_, item);
    ops_.clear(input);
    if (window.context.rows > 0) {
      ops_.copy(input.slice_rows(0, window.context.rows).slice_cols(channels, channels), window.context);
    }
    if (item >= count) continue;  // without condition
    const View mu = input.slice_cols(2 * channels, config_.dim);
    for (int64_t half = 0; half < 2; ++half) {  // each code stands for two latent frames
      ops_.copy(mu.every(half, 2, window.conditioning.rows), window.conditioning);
    }
  }
}

void FlowSampler::evaluate(const FlowEvaluation& e, const VelocityTransformer::Modulation& modulation,
                           std::span<const FlowWindow> windows, View velocity) {
  const auto count = static_cast<int64_t>(windows.size());
  const int64_t frames = windows[0].latents.rows;
  const int64_t rows = count * frames;
  const int64_t items = e.takes_difference ? 2 * count : count;
  for (int64_t item = 0; item < items; ++item) {
    const FlowWindow& window = windows[static_cast<size_t>(item % count)];
    const View latents = state_.slice_rows(item % count * frames, frames);
    if (const int64_t known = window.context.rows; known > 0 && item < count) {
      ops_.combine(latents.slice_rows(0, known), 1.0f - (1.0f - kSigmaMin) * e.t, window.noise.slice_rows(0, known),
                   e.t, window.context);
    }
    ops_.copy(transformer_.input(*buffers_, item).slice_cols(0, config_.out_channels), latents);
  }
  transformer_.forward(ops_, velocity.slice_rows(0, items * frames), modulation, *buffers_, items, e.runs_first_stack);
  if (!settings_.guided()) return;

  const View conditional = velocity.slice_rows(0, rows);
  const bool reuses = difference_.rows() > 0;
  if (e.takes_difference) {
    const View unconditional = velocity.slice_rows(rows, rows);
    if (reuses) ops_.combine(difference_.slice_rows(0, rows), 1.0f, conditional, -1.0f, unconditional);
    ops_.guide(conditional, conditional, unconditional, static_cast<float>(settings_.guidance));
  } else {
    ops_.combine(conditional, 1.0f, conditional, static_cast<float>(settings_.guidance - 1),
                 difference_.slice_rows(0, rows));
  }
}

void FlowSampler::sample(std::span<const FlowWindow> windows, const StepCallback& step_done) {
  const int64_t frames = windows[0].latents.rows;
  const int64_t rows = static_cast<int64_t>(windows.size()) * frames;
  if (!is_modulated_) transformer_.modulate(ops_, modulations_, schedule_);
  is_modulated_ = true;
  transformer_.set_frames(ops_, *buffers_, frames);
  put_inputs(windows);
  View state = state_.slice_rows(0, rows);
  for (size_t i = 0; i < windows.size(); ++i) {
    ops_.copy(state.slice_rows(static_cast<int64_t>(i) * frames, frames), windows[i].noise);
  }
  if (difference_.rows() > 0) ops_.clear(difference_);

  for (size_t i = 0; i < schedule_.size(); ++i) {
    const FlowEvaluation& e = schedule_[i];
    evaluate(e, modulations_[i], windows, velocity_);
    state = state_.slice_rows(0, rows);
    const View velocity = velocity_.slice_rows(0, rows);
    if (state_before_.rows() > 0) {
      const View next = state_before_.slice_rows(0, rows);
      ops_.combine(next, e.x_before_weight, next, e.x_weight, state);
      ops_.combine(next, 1.0f, next, e.v_weight, velocity);
      std::swap(state_, state_before_);
      state = next;
    } else {
      ops_.combine(state, e.x_weight, state, e.v_weight, velocity);  // x += dt v
    }
    if (velocity_before_.rows() > 0) {
      if (e.v_before_weight != 0) {
        ops_.combine(state, 1.0f, state, e.v_before_weight, velocity_before_.slice_rows(0, rows));
      }
      std::swap(velocity_, velocity_before_);
    }
    if (step_done) step_done(static_cast<int64_t>(i) + 1, evaluations());
  }
  for (size_t i = 0; i < windows.size(); ++i) {
    const FlowWindow& window = windows[i];
    ops_.copy(window.latents, state.slice_rows(static_cast<int64_t>(i) * frames, frames));
    if (window.context.rows > 0) ops_.copy(window.latents.slice_rows(0, window.context.rows), window.context);
  }
}

}  // namespace heartmula

#include "codec/flow_sampler.h"

namespace heartmula {
namespace {

constexpr float kSigmaMin = 1e-6f;

}  // namespace

std::vector<float> flow_times(int64_t steps) {
  const float step = static_cast<float>(1.0 / static_cast<double>(steps));
  std::vector<float> times;
  for (int64_t i = 0; i <= steps; ++i) {
    times.push_back(i < (steps + 1) / 2 ? step * static_cast<float>(i) : 1.0f - step * static_cast<float>(steps - i));
  }
  return times;
}

FlowSampler::FlowSampler(Ops& ops, const VelocityTransformer& transformer, const CodecConfig& config, int64_t frames,
                         const FlowSettings& settings)
    : ops_(ops),
      transformer_(transformer),
      config_(config),
      frames_(frames),
      settings_(settings),
      buffers_(transformer.make_buffers(ops, settings.batch())),
      velocity_(ops.allocate(DType::kF32, settings.batch() * frames, config.out_channels)),
      in_context_(ops.allocate(DType::kF32, frames, config.out_channels)),
      zeros_(ops.allocate(DType::kF32, frames, config.dim)) {}

void FlowSampler::sample(View latents, ConstView noise, ConstView conditioning, ConstView context,
                         const StepCallback& step_done) {
  const int64_t channels = config_.out_channels;
  const bool guided = settings_.batch() == 2;
  const int64_t conditional = settings_.batch() - 1;  // the unconditional window comes first
  ops_.copy(latents, noise);
  ops_.clear(in_context_);
  if (context.rows > 0) ops_.copy(in_context_.slice_rows(0, context.rows), context);
  const View latents_context = latents.slice_rows(0, context.rows);
  const View known = in_context_.slice_rows(0, context.rows);

  for (int64_t item = 0; item < settings_.batch(); ++item) {
    const View input = transformer_.input(*buffers_, item);
    ops_.copy(input.slice_cols(channels, channels), in_context_);
    const View mu = input.slice_cols(2 * channels, config_.dim);
    if (item == conditional) {  // each code stands for two latent frames
      ops_.copy(mu.every(0, 2, conditioning.rows), conditioning);
      ops_.copy(mu.every(1, 2, conditioning.rows), conditioning);
    } else {
      ops_.copy(mu, zeros_);
    }
  }

  const std::vector<float> times = flow_times(settings_.steps);
  const View velocity = velocity_.slice_rows(0, frames_);
  float t = times[0];
  float dt = times[1] - times[0];
  for (int64_t step = 0; step < settings_.steps; ++step) {
    if (context.rows > 0) {
      ops_.combine(latents_context, 1.0f - (1.0f - kSigmaMin) * t, noise.slice_rows(0, context.rows), t, known);
    }
    for (int64_t item = 0; item < settings_.batch(); ++item) {
      ops_.copy(transformer_.input(*buffers_, item).slice_cols(0, channels), latents);
    }
    transformer_.forward(ops_, velocity_, t, *buffers_);
    if (guided) {
      ops_.guide(velocity, velocity_.slice_rows(frames_, frames_), velocity, static_cast<float>(settings_.guidance));
    }
    ops_.combine(latents, 1.0f, latents, dt, velocity);  // x += dt v
    t += dt;
    if (step + 1 < settings_.steps) dt = times[static_cast<size_t>(step + 2)] - t;
    if (step_done) step_done(step + 1, settings_.steps);
  }
  if (context.rows > 0) ops_.copy(latents_context, known);
}

}  // namespace heartmula

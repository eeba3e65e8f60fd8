#include <fmt/format.h>

#include "bench/stages.h"

namespace heartmula::bench {
namespace {

constexpr int64_t kWaveLatents = 93;  // a tenth of a window's time: enough for every tile and history to be in use

Tensor noise_tensor(Ops& ops, int64_t rows, int64_t cols) {
  std::vector<float> values(static_cast<size_t>(rows * cols));
  PhiloxCodecNoise(1).fill(0, 0, values, cols);
  Tensor tensor = ops.allocate(DType::kF32, rows, cols);
  ops.upload(tensor, values);
  return tensor;
}

}  // namespace

Stage measure_flow_step(Ops& ops, WorkMeter& meter, const HeartCodec& codec, int64_t repeats) {
  const FlowSettings settings{.steps = repeats + 1};  // the first one warms up
  Stage stage =
      stage_of("flow_step", codec.dtype, fmt::format("{} x {} positions", settings.guided() ? 2 : 1, kWindowLatents));
  FlowSampler sampler(ops, codec.transformer, codec.config, kWindowLatents, settings);
  const Tensor noise = noise_tensor(ops, kWindowLatents, codec.config.out_channels);
  const Tensor conditioning = noise_tensor(ops, kWindowCodes, codec.config.dim);
  const Tensor latents = ops.allocate(DType::kF32, kWindowLatents, codec.config.out_channels);
  Clock::time_point begin = Clock::now();
  const FlowWindow window{latents, noise, conditioning};
  sampler.sample({&window, 1}, [&](int64_t done, int64_t) {
    settle(ops, latents);
    const double seconds = seconds_since(begin);
    const Work work = work_of(meter.take());
    if (done > 1) {
      stage.seconds.values.push_back(seconds);
      stage.work = work;
    }
    begin = Clock::now();
  });
  return stage;
}

Stage measure_wave_decoder(Ops& ops, WorkMeter& meter, const HeartCodec& codec, int64_t repeats) {
  Stage stage = stage_of("wave_decoder", codec.dtype, "a second of music");
  const int64_t rows = ops.works_ahead() ? kWindowLatents : kWaveLatents;
  const auto buffers = codec.wave.make_buffers(ops, rows);
  const auto history = codec.wave.make_history(ops);
  const Tensor latents = noise_tensor(ops, rows, codec.config.latent_dim);
  std::vector<float> samples;
  const double seconds_of_channel =
      static_cast<double>(rows * codec.config.samples_per_latent()) / static_cast<double>(kSampleRate);
  const double factor = 2.0 / seconds_of_channel;
  for (int64_t i = 0; i <= repeats; ++i) {
    meter.take();
    samples.clear();
    const Clock::time_point begin = Clock::now();
    codec.wave.push(ops, samples, latents, *buffers, *history);
    const double seconds = seconds_since(begin);
    if (i == 0) continue;  // warms up
    stage.seconds.values.push_back(seconds * factor);
    stage.work = work_of(meter.take()) * factor;
  }
  return stage;
}

}  // namespace heartmula::bench

// The codec's stages against the reference.
#include <cmath>

#include "base/error.h"
#include "checkpoint/models.h"
#include "verify/golden_case.h"

namespace heartmula::detail {
namespace {

struct Limits {
  double velocity;
  double velocity_greatest;
  double latent;
};
constexpr Limits kF32Limits = {1e-5, 5e-5, 5e-6};
constexpr Limits kBf16Limits = {1.5e-2, 0, 6e-3};
constexpr double kSampleTolerance = 1e-5;
constexpr double kSampleGreatest = 5e-5;
constexpr double kEdgeTolerance = 1e-5;      // of RMS: a latent this near to an edge may become either level
constexpr double kBf16LevelsChanged = 0.05;  // at most
constexpr int64_t kBlock = 4800;             // samples a recorded mean and RMS stand for

/// The reference's own draws: CASE.segmentS.noise.
class TapeCodecNoise final : public CodecNoise {
 public:
  TapeCodecNoise(const Recording& golden, std::string name) : golden_(golden), name_(std::move(name)) {}
  void fill(int64_t window, int64_t, std::span<float> noise, int64_t) const override {
    const std::vector<float> tape = golden_.floats(name_ + ".segment" + std::to_string(window) + ".noise");
    if (tape.size() != noise.size()) throw user_error("{}: the noise tape has the wrong size", name_);
    std::copy(tape.begin(), tape.end(), noise.begin());
  }

 private:
  const Recording& golden_;
  std::string name_;
};

// [2, C / 2, T] as recorded to our [T, C].
std::vector<float> recorded_latents(const Recording& golden, const std::string& name) {
  const std::vector<float> stored = golden.floats(name);
  const std::vector<int64_t>& shape = golden.shape(name);
  const int64_t channels = shape[0] * shape[1];
  std::vector<float> latents(stored.size());
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (int64_t t = 0; t < shape[2]; ++t) {
      latents[static_cast<size_t>(t * channels + channel)] = stored[static_cast<size_t>(channel * shape[2] + t)];
    }
  }
  return latents;
}

struct Levels {
  int64_t values = 0;
  int64_t changed = 0;
  int64_t changed_away_from_edges = 0;

  void add(std::span<const float> actual, std::span<const float> expected) {
    const double margin = kEdgeTolerance * root_mean_square(expected);
    for (size_t i = 0; i < expected.size(); ++i) {
      ++values;
      if (WaveDecoder::level(actual[i]) == WaveDecoder::level(expected[i])) continue;
      ++changed;
      const double ninths = 9.0 * expected[i];
      const double to_edge = std::abs(ninths - std::floor(ninths) - 0.5) / 9.0;
      changed_away_from_edges += to_edge > margin;
    }
  }
};

struct Samples {
  std::vector<float> channel[2];

  /// Both channels' [first, first + count), or less where the song ends.
  std::vector<float> cut(int64_t first, int64_t count) const {
    std::vector<float> values;
    for (const std::vector<float>& samples : channel) {
      const auto begin = std::min(samples.size(), static_cast<size_t>(first));
      const auto end = std::min(samples.size(), static_cast<size_t>(first + count));
      values.insert(values.end(), samples.begin() + static_cast<std::ptrdiff_t>(begin),
                    samples.begin() + static_cast<std::ptrdiff_t>(end));
    }
    return values;
  }
};

void compare_samples(const Recording& golden, const std::string& name, const Samples& samples,
                     std::vector<Check>& checks) {
  const auto length = static_cast<int64_t>(samples.channel[0].size());
  checks.push_back(equality("codec " + name, "length in samples", 1, length != golden.integers(name + ".length")[0]));
  Comparison comparison;
  const auto compare = [&](const char* part, int64_t first) {
    const std::string recorded = name + "." + part;
    if (!golden.has(recorded)) return;
    const int64_t count = golden.shape(recorded)[1];
    comparison.add(samples.cut(first, count), golden.floats(recorded));
  };
  compare("wav", 0);
  compare("wav_head", 0);
  compare("wav_crossfade", 1'224'000);
  if (golden.has(name + ".wav_tail")) compare("wav_tail", length - golden.shape(name + ".wav_tail")[1]);

  if (golden.has(name + ".wav_block_rms")) {
    std::vector<float> means;
    std::vector<float> levels;
    for (const std::vector<float>& channel : samples.channel) {
      for (int64_t first = 0; first + kBlock <= length; first += kBlock) {
        const std::span<const float> block(channel.data() + first, static_cast<size_t>(kBlock));
        double sum = 0;
        for (const float sample : block) sum += sample;
        means.push_back(static_cast<float>(sum / kBlock));
        levels.push_back(static_cast<float>(root_mean_square(block)));
      }
    }
    const std::vector<float> recorded = golden.floats(name + ".wav_block_rms");
    const double scale = root_mean_square(recorded);
    comparison.add(levels, recorded, scale);
    comparison.add(means, golden.floats(name + ".wav_block_mean"), scale);
  }
  checks.push_back(
      comparison.check("codec " + name, "samples from recorded latents", kSampleTolerance, kSampleGreatest));
}

Comparison compare_velocities(const Recording& golden, Models& models, const std::string& name) {
  Ops& ops = models.codec_ops();
  const VelocityTransformer& transformer = models.codec().transformer;
  Comparison comparison;
  for (const char* step : {".step0.", ".step7."}) {
    const std::string prefix = name + step;
    if (!golden.has(prefix + "estimator_in")) continue;
    const std::vector<float> in = golden.floats(prefix + "estimator_in");
    const int64_t batch = golden.shape(prefix + "estimator_in")[0];
    const auto buffers = transformer.make_buffers(ops, batch, kWindowLatents);
    const FlowEvaluation evaluation{.t = golden.floats(prefix + "t")[0]};
    std::vector<VelocityTransformer::Modulation> modulation = transformer.make_modulations(ops, 1);
    transformer.modulate(ops, modulation, {&evaluation, 1});
    const size_t item_size = in.size() / static_cast<size_t>(batch);
    for (int64_t item = 0; item < batch; ++item) {
      ops.upload(transformer.input(*buffers, item),
                 std::span(in).subspan(static_cast<size_t>(item) * item_size, item_size));
    }
    const Tensor velocity = ops.allocate(DType::kF32, batch * kWindowLatents, models.codec_config().out_channels);
    transformer.forward(ops, velocity, modulation[0], *buffers, batch);
    std::vector<float> out(static_cast<size_t>(velocity.rows() * velocity.cols()));
    ops.download(out, velocity);
    comparison.add(out, golden.floats(prefix + "estimator_out"));
  }
  return comparison;
}

struct CaseRun {
  Comparison latents;
  Levels levels;
  Samples samples;
};

CaseRun run_case(const Recording& golden, Models& models, const std::string& name) {
  const std::vector<int64_t> codes = golden.integers(name + ".codes");  // [8, T]
  const size_t length = codes.size() / kCodebooks;
  std::vector<Frame> frames(length);
  for (size_t i = 0; i < codes.size(); ++i) frames[i % length][i / length] = static_cast<int32_t>(codes[i]);
  const std::vector<float> s = golden.floats(name + ".settings");
  const CodecSettings settings = {.flow = {.steps = static_cast<int64_t>(s.at(0)), .guidance = s.at(1)},
                                  .compat = true};
  const TapeCodecNoise tape(golden, name);

  CaseRun run;
  SongDecoder decoder(models.codec_ops(), models.codec(), settings, tape,
                      [&run](std::span<const float> left, std::span<const float> right) {
                        run.samples.channel[0].insert(run.samples.channel[0].end(), left.begin(), left.end());
                        run.samples.channel[1].insert(run.samples.channel[1].end(), right.begin(), right.end());
                      });
  decoder.set_latent_tap([&](int64_t window, std::span<float> latents) {
    const std::vector<float> recorded =
        recorded_latents(golden, name + ".segment" + std::to_string(window) + ".latent");
    run.latents.add(latents, recorded);
    run.levels.add(latents, recorded);
    std::copy(recorded.begin(), recorded.end(), latents.begin());
  });
  decoder.push(frames);
  decoder.finish();
  return run;
}

}  // namespace

void check_codec(const std::filesystem::path& folder, const VerifyOptions& options, const CancelToken* cancel,
                 std::vector<Check>& checks) {
  const Recording golden(folder / "golden_codec.safetensors");
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const bool exact = dtype == DType::kF32;
    const Limits limits = exact ? kF32Limits : kBf16Limits;
    const std::string suffix = exact ? "" : " bf16";
    Models models({.checkpoint = {.model_path = folder.string(), .codec_dtype = dtype},
                   .machine = {.device = options.device, .threads = options.threads, .cpus = options.cpus}},
                  CheckpointParts::kCodec, cancel);
    for (const std::string& name : golden.prefixes()) {
      const std::string stage = fmt::format("codec {}{}", name, suffix);
      const Comparison velocities = compare_velocities(golden, models, name);
      if (velocities.values() > 0) {
        checks.push_back(velocities.check(stage, "velocities", limits.velocity, limits.velocity_greatest));
        if (!exact) {
          checks.push_back(equality(stage, "velocities are not f32's", 1, velocities.rms() < kF32Limits.velocity));
        }
      }
      const CaseRun run = run_case(golden, models, name);
      checks.push_back(run.latents.check(stage, "latents", limits.latent));
      if (exact) {
        checks.push_back(
            equality(stage, "levels, but for ties", run.levels.values, run.levels.changed_away_from_edges));
        compare_samples(golden, name, run.samples, checks);
      } else {
        const double changed = static_cast<double>(run.levels.changed) / static_cast<double>(run.levels.values);
        checks.push_back({.stage = stage,
                          .what = "part of the levels changed",
                          .values = run.levels.values,
                          .rms = changed,
                          .greatest = changed,
                          .tolerance = fmt::format("below {}", kBf16LevelsChanged),
                          .passed = changed < kBf16LevelsChanged});
      }
    }
  }
}

}  // namespace heartmula::detail

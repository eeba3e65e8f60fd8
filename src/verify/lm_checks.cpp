// Language model, sampler and whole runs against the reference.
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_fields.h"
#include "checkpoint/models.h"
#include "decode/frame_loop.h"
#include "lm/session.h"
#include "verify/golden_case.h"

namespace heartmula::detail {
namespace {

constexpr double kLmTolerance = 1e-5;
// bf16: our distance to the f32 logits over the reference's; less means that inputs of products were not rounded.
constexpr double kBf16Least = 0.3;
constexpr double kBf16Most = 0.85;

Models make_models(const std::filesystem::path& folder, DType dtype, const VerifyOptions& options,
                   const CancelToken* cancel) {
  return Models({.checkpoint = {.model_path = folder.string(), .mula_dtype = dtype},
                 .machine = {.device = options.device, .threads = options.threads, .cpus = options.cpus}},
                CheckpointParts::kAll, cancel);
}

std::vector<int32_t> to_ids(const std::vector<int64_t>& values) {
  return {values.begin(), values.end()};
}

std::vector<Frame> to_frames(const std::vector<int64_t>& values) {  // [F, 8]
  std::vector<Frame> frames(values.size() / kCodebooks);
  for (size_t i = 0; i < values.size(); ++i) frames[i / kCodebooks][i % kCodebooks] = static_cast<int32_t>(values[i]);
  return frames;
}

std::vector<float> downloaded(Ops& ops, ConstView x) {
  std::vector<float> values(static_cast<size_t>(x.rows * x.cols));
  ops.download(values, x);
  return values;
}

/// Compares what is recorded of one prompt and its forced frames, kind by kind.
class ForcedRun {
 public:
  ForcedRun(const Recording& golden, Models& models, std::string tag, double guidance)
      : golden_(golden),
        models_(models),
        tag_(std::move(tag)),
        settings_({.topk = 1, .guidance = static_cast<float>(guidance)}),
        sampler_(settings_, noise_) {}

  void run(const std::string& prompt_name, int64_t reference_index, std::span<const Frame> frames) {
    const std::vector<int32_t> prompt = to_ids(golden_.integers(prompt_name));
    const auto capacity = static_cast<int64_t>(prompt.size() + frames.size());
    LmSession session(models_.lm_ops(), models_.lm(), settings_.streams(), capacity);
    session.set_taps({[this](int64_t layer, ConstView x) {
      compare("backbone.layer" + std::to_string(layer), "backbone layers", downloaded(models_.lm_ops(), x));
    }});
    session.prefill(prompt, reference_index, {});
    for (size_t f = 0;; ++f) {
      if (models_.options().checkpoint.mula_dtype == DType::kF32) {
        compare("backbone.out", "backbone output", downloaded(models_.lm_ops(), session.hidden()));
      }
      compare_logits(0, session.first_logits());
      if (f == frames.size()) break;
      for (int64_t q = 1; q < kCodebooks; ++q) {
        const std::span<const float> logits = session.next_logits(q, frames[f][static_cast<size_t>(q - 1)]);
        if (models_.options().checkpoint.mula_dtype == DType::kF32) {
          compare("decoder.step" + std::to_string(q), "depth decoder",
                  downloaded(models_.lm_ops(), session.depth_hidden()));
        }
        compare_logits(q, logits);
      }
      if (f + 1 == frames.size()) break;
      ++frame_;
      session.feed(frames[f]);
    }
  }

  const std::map<std::string, Comparison>& comparisons() const { return comparisons_; }
  const std::map<std::string, std::vector<float>>& logits() const { return logits_; }

 private:
  void compare(const std::string& value, const char* kind, std::span<const float> actual) {
    const std::string name = tag_ + "frame" + std::to_string(frame_) + "." + value;
    if (golden_.has(name)) comparisons_[kind].add(actual, golden_.floats(name));
  }

  void compare_logits(int64_t codebook, std::span<const float> logits) {
    const auto q = static_cast<uint32_t>(codebook);
    sampler_.sample(logits, static_cast<uint32_t>(frame_), q);  // guidance is the sampler's work
    const std::string value = "logits" + std::to_string(codebook);
    compare(value, "logits", sampler_.guided());
    logits_["frame" + std::to_string(frame_) + "." + value] = {sampler_.guided().begin(), sampler_.guided().end()};
  }

  const Recording& golden_;
  Models& models_;
  std::string tag_;
  int64_t frame_ = 0;
  PhiloxNoise noise_{0};
  SamplingSettings settings_;
  Sampler sampler_;
  std::map<std::string, Comparison> comparisons_;
  std::map<std::string, std::vector<float>> logits_;
};

void report(const ForcedRun& run, const std::string& name, std::vector<Check>& checks) {
  for (const auto& [kind, comparison] : run.comparisons()) {
    checks.push_back(comparison.check("lm " + name, kind, kLmTolerance));
  }
}

void check_bf16(const Recording& golden, const ForcedRun& run, std::vector<Check>& checks) {
  double ours = 0;
  double theirs = 0;
  int64_t values = 0;
  for (const auto& [name, actual] : run.logits()) {
    if (!golden.has("bf16.cfg1.5." + name)) continue;
    const std::vector<float> exact = golden.floats("f32.cfg1.5." + name);
    const std::vector<float> recorded = golden.floats("bf16.cfg1.5." + name);
    for (size_t i = 0; i < exact.size(); ++i) {
      ours += std::pow(static_cast<double>(actual[i]) - exact[i], 2);
      theirs += std::pow(static_cast<double>(recorded[i]) - exact[i], 2);
      ++values;
    }
  }
  const double ratio = std::sqrt(ours / theirs);
  checks.push_back({.stage = "lm bf16.cfg1.5",
                    .what = "logits' distance to f32 over the reference's",
                    .values = values,
                    .rms = ratio,
                    .greatest = ratio,
                    .tolerance = fmt::format("{} to {}", kBf16Least, kBf16Most),
                    .passed = ratio >= kBf16Least && ratio <= kBf16Most});
}

void check_samplers(const Recording& golden, std::vector<Check>& checks) {
  for (const std::string& name : golden.prefixes()) {
    if (!name.starts_with("sampler")) continue;
    const std::vector<float> logits = golden.floats(name + ".logits");
    const std::vector<float> draws = golden.floats(name + ".exponential");
    const std::vector<float> settings = golden.floats(name + ".topk_temperature");
    const std::vector<int64_t> tokens = golden.integers(name + ".token");
    const size_t vocabulary = logits.size() / tokens.size();
    const TapeNoise tape(draws, 1, static_cast<int64_t>(vocabulary));
    Sampler sampler({static_cast<int64_t>(settings[0]), settings[1], 1.0f}, tape);
    int64_t differences = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::span<const float> row(logits.data() + i * vocabulary, vocabulary);
      differences += sampler.sample(row, static_cast<uint32_t>(i), 0) != tokens[i];
    }
    checks.push_back(equality(name, "tokens", static_cast<int64_t>(tokens.size()), differences));
  }
}

}  // namespace

void check_language_model(const std::filesystem::path& folder, const VerifyOptions& options, const CancelToken* cancel,
                          std::vector<Check>& checks) {
  const Recording golden(folder / "golden_lm.safetensors");
  const int64_t reference_index = golden.integers("muq_index").at(0);
  const std::vector<Frame> frames = to_frames(golden.integers("forced_codes"));
  {
    Models models = make_models(folder, DType::kF32, options, cancel);
    for (const auto& [tag, guidance] : {std::pair{"f32.cfg1.5", 1.5}, std::pair{"f32.cfg1.0", 1.0}}) {
      ForcedRun run(golden, models, std::string(tag) + ".", guidance);
      run.run("prompt_text_ids", reference_index, frames);
      report(run, tag, checks);
    }
    if (golden.has("long.prompt_text_ids")) {
      ForcedRun run(golden, models, "long.", 1.0);
      run.run("long.prompt_text_ids", reference_index, {});
      report(run, "long", checks);
    }
  }
  Models models = make_models(folder, DType::kBF16, options, cancel);
  ForcedRun run(golden, models, "bf16.cfg1.5.", 1.5);
  run.run("prompt_text_ids", reference_index, frames);
  check_bf16(golden, run, checks);
  check_samplers(golden, checks);
}

void check_pipeline(const std::filesystem::path& folder, const VerifyOptions& options, const CancelToken* cancel,
                    std::vector<Check>& checks) {
  const Recording golden(folder / "golden_pipeline.safetensors");
  Models models = make_models(folder, DType::kF32, options, cancel);
  for (const std::string& name : golden.prefixes()) {
    const nlohmann::json inputs = parse_json_object(golden.text(name + ".inputs"), name);
    const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), inputs.at("tags").get<std::string>(),
                                      inputs.at("lyrics").get<std::string>());
    const std::vector<float> s = golden.floats(name + ".settings");
    const FrameLoopSettings settings = {.sampling = {static_cast<int64_t>(s.at(1)), s.at(2), s.at(3)},
                                        .max_audio_length_ms = static_cast<int64_t>(s.at(0)),
                                        .audio_eos_id = models.gen_config().audio_eos_id};
    const std::vector<float> draws = golden.floats(name + ".exponential");
    const TapeNoise tape(draws, kCodebooks, models.lm_config().audio_vocab_size);
    const int64_t context = required_context(models.lm_config(), prompt, settings);
    LmBatch batch(models.lm_ops(), models.lm(), {.streams = settings.sampling.streams(), .positions = context});
    std::vector<Frame> frames;
    generate_frames(batch, prompt, {}, settings, tape, [&](int64_t, const Frame& f) { frames.push_back(f); });

    const std::vector<int64_t> expected = golden.integers(name + ".frames");  // [8, T]
    const size_t length = expected.size() / kCodebooks;
    int64_t differences = frames.size() == length ? 0 : static_cast<int64_t>(expected.size());
    for (size_t i = 0; differences == 0 && i < expected.size(); ++i) {
      differences += frames[i % length][i / length] != expected[i];
    }
    checks.push_back(equality("pipeline " + name, fmt::format("codes of {} frames", length),
                              static_cast<int64_t>(expected.size()), differences));
  }
}

}  // namespace heartmula::detail

#include "measure/draft_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <exception>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/message.h"
#include "checkpoint/models.h"
#include "decode/draft_settings.h"
#include "decode/frame_loop.h"
#include "measure/made_song.h"

namespace heartmula {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// MB of the 3B model's weights (decoding.md 1.1): a frame, its backbone, a pass of the depth decoder, a head.
constexpr double kFrameBytes = 10532;
constexpr double kBackboneBytes = 5637;
constexpr double kPassBytes = 642;
constexpr double kHeadBytes = 50;
// Of a drafter for it (train/configs/drafter_3b.toml): a code by the micro depth decoder, h of a frame.
constexpr double kMicroCodeBytes = 48;
constexpr double kFrameDraftBytes = 63;

constexpr double kHotEntropy = 3.5;     // nats; published speech models of this structure have more, without top-k
constexpr int64_t kHotFrames = 4;       // of so many frames one tells at which temperature
constexpr int64_t kReplacedFrames = 8;  // and in one of so many codes are replaced
constexpr int64_t kLeastFrames = 20;    // that tell of a chance
constexpr int64_t kDraftsOfStep = 3;    // of drafters that run
constexpr size_t kCodes = kCodebooks;

/// Four digits are more than the songs tell.
json rounded(double value) {
  return std::isfinite(value) ? json(std::stod(fmt::format("{:.4g}", value))) : json();
}

struct Mean {
  double sum = 0;
  int64_t count = 0;

  void add(double value) {
    sum += value;
    ++count;
  }
  void add_chance(bool is_right) { add(is_right ? 1 : 0); }
  double value() const { return count > 0 ? sum / static_cast<double>(count) : std::nan(""); }
};

using CodeMeans = std::array<Mean, kCodes>;

json to_json(const CodeMeans& means, int64_t least = 1) {
  json values = json::array();
  for (const Mean& mean : means) values.push_back(mean.count < least ? json() : rounded(mean.value()));
  return values;
}

/// Guessed frames beside the true ones.
struct FrameChances {
  CodeMeans right;  // if all before are
  CodeMeans same;
  Mean frames;

  void add(const Frame& guess, const Frame& truth) {
    bool is_right = true;
    for (size_t q = 0; q < kCodes; ++q) {
      same[q].add_chance(guess[q] == truth[q]);
      if (is_right) right[q].add_chance(guess[q] == truth[q]);
      is_right = is_right && guess[q] == truth[q];
    }
    frames.add_chance(is_right);
  }
};

struct Spread {
  double entropy = 0;  // nats
  double likeliest = 0;
};

// Of softmax(logits / temperature): H = log Z - sum p x.
Spread spread_of(std::span<const float> logits, double temperature) {
  const double most = std::ranges::max(logits) / temperature;
  double total = 0;
  double weighted = 0;
  for (const float logit : logits) {
    const double x = logit / temperature - most;
    total += std::exp(x);
    weighted += std::exp(x) * x;
  }
  return {std::log(total) - weighted / total, 1 / total};
}

// One of the other tokens, drawn as if the code had been drawn until it is another one.
std::optional<int32_t> other_code(const KeptCodes& choice, int32_t code, double temperature, const SamplingNoise& noise,
                                  int64_t frame, int64_t codebook) {
  std::optional<int32_t> other;
  double best = 0;
  for (size_t i = 0; i < choice.tokens.size(); ++i) {
    const int32_t token = choice.tokens[i];
    if (token == code) continue;
    const double score = choice.logits[i] / temperature - noise.log_exponential(static_cast<uint32_t>(frame),
                                                                                static_cast<uint32_t>(codebook),
                                                                                static_cast<uint32_t>(token));
    if (other && score <= best) continue;
    other = token;
    best = score;
  }
  return other;
}

struct DrafterFigures {
  std::string name;
  DraftSettings settings = {};
  bool completes = false;
  FrameChances drafted = {};
  CodeMeans rest = {};  // code q behind the q before it
  Mean propose_seconds = {};
  Mean complete_seconds = {};

  // Passes of the depth decoder for a frame: one, and one after each guess that is wrong. What codebook 7 should be,
  // the last pass says by itself.
  double passes() const {
    double passes = 1;
    for (size_t q = 1; q + 1 < kCodes; ++q) passes += completes ? 1 - rest[q].value() : 1;
    return passes;
  }
  double frame_bytes() const { return kFrameBytes - kPassBytes * (kCodebooks - 1 - passes()) + rest_bytes(); }
  // A learned rest is drawn whole, and again behind each guess that is wrong.
  double rest_bytes() const {
    if (settings.kind != DrafterKind::kFile) return 0;
    double drawn = kCodebooks - 1;
    for (size_t q = 1; q + 1 < kCodes; ++q) drawn += (1 - rest[q].value()) * static_cast<double>(kCodes - 1 - q);
    return drawn * kMicroCodeBytes;
  }
  double draft_bytes(int64_t backbone_layers) const {
    if (settings.kind == DrafterKind::kFile) return kFrameDraftBytes + kHeadBytes + (kCodebooks - 1) * kMicroCodeBytes;
    if (settings.kind != DrafterKind::kEarlyExit) return 0;
    const double part = static_cast<double>(settings.layers) / static_cast<double>(backbone_layers);
    return part * kBackboneBytes + kHeadBytes + (kCodebooks - 1) * (kPassBytes + kHeadBytes);
  }

  json figures(int64_t backbone_layers) const {
    const double rest_speed = completes ? kFrameBytes / frame_bytes() : std::nan("");
    const double drafted_bytes = frame_bytes() + draft_bytes(backbone_layers);
    const double microseconds = 1e6 * (propose_seconds.value() + (completes ? complete_seconds.value() : 0));
    return {{"drafter", name},
            {"right", to_json(drafted.right, kLeastFrames)},
            {"frames", rounded(drafted.frames.value())},
            {"rest", completes ? to_json(rest) : json()},
            {"microseconds", rounded(microseconds)},
            {"speed",
             {{"rest", rounded(rest_speed)},
              {"frames", rounded((1 + drafted.frames.value()) * kFrameBytes / drafted_bytes)}}}};
  }
};

struct RunningFigures {
  std::string name;
  DraftSettings settings = {};
  Mean accepted = {};  // a step that had drafts
  Mean drafted = {};
  Mean matched = {};
  FrameChances first = {};

  json figures() const {
    return {{"drafter", name},
            {"accepted", rounded(accepted.value())},
            {"drafted", rounded(drafted.value())},
            {"matched", rounded(matched.value())},
            {"right", to_json(first.right, kLeastFrames)},
            {"frames", rounded(first.frames.value())},
            {"speed", rounded(1 + accepted.value())}};
  }
};

/// Writes down what became of another one's drafts.
class RecordingDrafter final : public Drafter {
 public:
  RecordingDrafter(std::unique_ptr<Drafter> drafter, RunningFigures& figures)
      : drafter_(std::move(drafter)), figures_(figures) {}

  void propose(const DraftTask& task, std::vector<Frame>& drafts) override { drafter_->propose(task, drafts); }
  bool completes() const override { return drafter_->completes(); }
  void complete(const DraftTask& task, int64_t number, int64_t known, Frame& frame) override {
    drafter_->complete(task, number, known, frame);
  }
  bool rides() const override { return drafter_->rides(); }

  void learn(const DraftTask& task, const DraftVerdict& verdict) override {
    if (!verdict.drafts.empty()) {
      figures_.accepted.add(static_cast<double>(verdict.accepted));
      figures_.drafted.add(static_cast<double>(verdict.drafts.size()));
      figures_.first.add(verdict.drafts.front(), verdict.frames.front());
      if (verdict.accepted < std::ssize(verdict.drafts)) figures_.matched.add(static_cast<double>(verdict.matched));
    }
    drafter_->learn(task, verdict);
  }

 private:
  std::unique_ptr<Drafter> drafter_;
  RunningFigures& figures_;
};

Error other_song(const MadeSong& song, int64_t frame) {
  return failure(
      "{}: frame {} is another one when it is made again; were the songs made on another machine or device, or with "
      "another --mula_dtype?",
      song.name, frame);
}

class Measurement {
 public:
  Measurement(const DraftStatisticsOptions& options, const std::function<void(const std::string&)>& note,
              const CancelToken* cancel)
      : options_(options),
        note_(note),
        models_({.checkpoint = options.checkpoint, .machine = options.machine}, CheckpointParts::kAll, cancel) {
    for (const std::string& path : options.codes) {
      songs_.push_back(read_made_song(models_, path, options.frames));
      if (const std::string& guesses = songs_.back().guesses; !guesses.empty()) {
        throw user_error("{}: made with {}, so that its frames do not follow from its seed: leave it out", path,
                         guesses);
      }
    }
    const int64_t layers = models_.lm_config().backbone.num_layers;
    std::vector<std::string> names = options.drafters;
    std::vector<int64_t> exits = options.early_exits;
    if (exits.empty()) exits = {layers / 4, layers / 2, 3 * layers / 4};
    for (const int64_t exit : exits) {
      const std::string name = fmt::format("early_exit:{}", std::max<int64_t>(1, exit));
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
    for (const std::string& name : names) {
      drafters_.push_back({.name = name, .settings = DraftSettings::parse("drafters", name)});
    }
    for (const char* name : {"riders", "ngram"}) {
      running_.push_back({.name = name, .settings = DraftSettings::parse("drafters", name)});
    }
    DraftSettings learned = models_.drafts(options.machine);
    if (!learned.model) return;
    learned.kind = DrafterKind::kFile;
    drafters_.push_back({.name = "learned", .settings = learned});
    if (!learned.model->config.drafts_frames()) return;
    learned.frames = kDraftsOfStep;
    running_.push_back({.name = "learned", .settings = learned});
  }

  json run() {
    for (const MadeSong& song : songs_) {
      note_(message("{}: {} frames", song.name, song.frames.size()));
      measure(song);
    }
    json statistics = {{"codes", options_.codes},
                       {"songs", songs_.size()},
                       {"frames", frames_},
                       {"language_model", models_.lm_identity().name},
                       {"fingerprint", models_.lm_identity().fingerprint},
                       {"device", models_.device()},
                       {"temperature", shared([](const MadeSong& s) { return s.settings.sampling.temperature; })},
                       {"topk", shared([](const MadeSong& s) { return s.settings.sampling.topk; })},
                       {"cfg_scale", shared([](const MadeSong& s) { return s.settings.sampling.guidance; })},
                       {"entropy", to_json(entropy_)},
                       {"likeliest", to_json(likeliest_)},
                       {"kept", to_json(kept_)},
                       {"mean_entropy", rounded(mean_entropy())},
                       {"hotter", {{"entropy", kHotEntropy}, {"temperature", hot_temperature()}}},
                       {"drafters", json::array()},
                       {"resampled_frame",
                        {{"right", to_json(resampled_.right, kLeastFrames)},
                         {"same", to_json(resampled_.same)},
                         {"frames", rounded(resampled_.frames.value())},
                         {"changed", rounded(changed_.value())}}},
                       {"resampled_code", json::array()},
                       {"running", json::array()}};
    const int64_t layers = models_.lm_config().backbone.num_layers;
    for (const DrafterFigures& drafter : drafters_) statistics["drafters"].push_back(drafter.figures(layers));
    for (const CodeMeans& row : replaced_) statistics["resampled_code"].push_back(to_json(row));
    for (const RunningFigures& drafter : running_) statistics["running"].push_back(drafter.figures());
    return statistics;
  }

 private:
  /// What all songs were made with; null if that differs.
  template <typename Value>
  json shared(const Value& value) const {
    for (const MadeSong& song : songs_) {
      if (value(song) != value(songs_.front())) return {};
    }
    return rounded(static_cast<double>(value(songs_.front())));
  }

  void measure(const MadeSong& song) {
    LmBatch batch(models_.lm_ops(), models_.lm(),
                  {.streams = song.settings.sampling.streams(),
                   .positions = required_context(models_.lm_config(), song.prompt, song.settings),
                   .frames = 1 + kDraftsOfStep});
    walk(batch, song);
    for (RunningFigures& figures : running_) make_again(batch, song, figures);
  }

  // From frame to frame of the song, whatever is guessed.
  void walk(LmBatch& batch, const MadeSong& song) {
    const PhiloxNoise noise(song.seed);
    const PhiloxNoise other_noise(~song.seed);
    std::vector<std::unique_ptr<Drafter>> drafters;
    for (DrafterFigures& figures : drafters_) {
      figures.settings.song = song.frames;
      drafters.push_back(std::move(figures.settings.make_drafters(models_.lm_config()).front()));
      figures.completes = drafters.back()->completes();
    }
    batch.enter(0, song.settings.sampling.streams(), batch.ops().make_sampler(song.rule, noise));
    const SongBeginning beginning = {song.prompt.text_ids, song.prompt.reference_index, song.prompt.muq_embed, {}};
    while (!batch.prefill(0, beginning, batch.size().piece)) {
    }
    Frame resampled = {};  // the frame before, drawn with other noise
    for (int64_t number = 0; number < std::ssize(song.frames); ++number) {
      if (number % kEmbeddingFrames == 0) models_.release_embeddings();
      const DraftTask task = {.frames = std::span(song.frames).first(static_cast<size_t>(number)),
                              .rule = song.rule,
                              .noise = noise,
                              .batch = batch};
      if (number == 0) {
        const int64_t place = 0;
        batch.open({}, {&place, 1});
      } else {
        for (size_t i = 0; i < drafters.size(); ++i) ask_for_frame(*drafters[i], drafters_[i], task, song);
        sample_behind(batch, resampled, song, number);
        const FedFrame fed = {0, song.frames[static_cast<size_t>(number - 1)]};
        batch.open({&fed, 1}, {});
      }
      read_frame(batch, song, noise, number);
      if (number > 0) {
        for (size_t i = 0; i < drafters.size(); ++i) ask_for_rest(*drafters[i], drafters_[i], task, song);
      }
      if (number % kReplacedFrames == 0) replace_codes(batch, song, noise, other_noise, number);
      resampled = sampled_frame(batch, song, other_noise, number);
      batch.keep(0, 1);
      ++frames_;
    }
  }

  static void ask_for_frame(Drafter& drafter, DrafterFigures& figures, const DraftTask& task, const MadeSong& song) {
    std::vector<Frame> drafts;
    const Clock::time_point begin = Clock::now();
    drafter.propose(task, drafts);
    figures.propose_seconds.add(seconds_since(begin));
    if (!drafts.empty()) figures.drafted.add(drafts.front(), song.frames[task.frames.size()]);
  }

  static void ask_for_rest(Drafter& drafter, DrafterFigures& figures, const DraftTask& task, const MadeSong& song) {
    if (!figures.completes) return;
    const Frame& truth = song.frames[task.frames.size()];
    for (size_t known = 1; known < kCodes; ++known) {
      Frame guess = {};
      std::copy_n(truth.begin(), known, guess.begin());
      const Clock::time_point begin = Clock::now();
      drafter.complete(task, std::ssize(task.frames), static_cast<int64_t>(known), guess);
      figures.complete_seconds.add(seconds_since(begin));
      figures.rest[known].add_chance(guess[known] == truth[known]);
    }
  }

  // Frame `number`, where the one before it is `before`.
  void sample_behind(LmBatch& batch, const Frame& before, const MadeSong& song, int64_t number) {
    const bool is_changed = before != song.frames[static_cast<size_t>(number - 1)];
    changed_.add_chance(is_changed);
    if (!is_changed) return;
    const FedFrame fed = {0, before};
    batch.open({&fed, 1}, {});
    batch.decoder().sample_all();
    resampled_.add(batch.decoder().read_codes().front(), song.frames[static_cast<size_t>(number)]);
  }

  // What each code of the open frame is drawn from, after the true ones before it.
  void read_frame(LmBatch& batch, const MadeSong& song, const SamplingNoise& noise, int64_t number) {
    const SamplingSettings& settings = song.rule.settings;
    const Frame& truth = song.frames[static_cast<size_t>(number)];
    const int64_t allowed = song.rule.allowed(number);
    Sampler sampler(settings, noise);
    for (size_t q = 0; q < kCodes; ++q) {
      const auto codebook = static_cast<int64_t>(q);
      const std::span<const float> logits =
          q == 0 ? batch.decoder().first_logits() : batch.decoder().next_logits(codebook, truth[q - 1]);
      if (q == 0) first_logits_.assign(logits.begin(), logits.end());
      const int32_t code = sampler.sample(logits, static_cast<uint32_t>(number), static_cast<uint32_t>(q), allowed);
      if (code != truth[q]) throw other_song(song, number);
      KeptCodes& choice = choices_[q];
      choice.keep(settings, sampler.guided(), allowed);
      const Spread spread = spread_of(choice.logits, settings.temperature);
      entropy_[q].add(spread.entropy);
      likeliest_[q].add(spread.likeliest);
      kept_[q].add(static_cast<double>(choice.tokens.size()));
      if (number % kHotFrames == 0) hot_logits_.push_back(choice.logits);
    }
  }

  // The last code first: what stands before it in the depth decoder's cache stays true.
  void replace_codes(LmBatch& batch, const MadeSong& song, const SamplingNoise& noise, const SamplingNoise& other_noise,
                     int64_t number) {
    const Frame& truth = song.frames[static_cast<size_t>(number)];
    Sampler sampler(song.rule.settings, noise);
    for (size_t replaced = kCodes - 1; replaced-- > 0;) {
      const std::optional<int32_t> other =
          other_code(choices_[replaced], truth[replaced], song.rule.settings.temperature, other_noise, number,
                     static_cast<int64_t>(replaced));
      if (!other) continue;
      int32_t code = *other;
      for (size_t q = replaced + 1; q < kCodes; ++q) {
        code = sampler.sample(batch.decoder().next_logits(static_cast<int64_t>(q), code), static_cast<uint32_t>(number),
                              static_cast<uint32_t>(q), song.rule.allowed(number));
        replaced_[replaced][q].add_chance(code == truth[q]);
      }
    }
  }

  // The open frame, drawn with other noise.
  Frame sampled_frame(LmBatch& batch, const MadeSong& song, const SamplingNoise& noise, int64_t number) {
    Sampler sampler(song.rule.settings, noise);
    Frame frame = {};
    for (size_t q = 0; q < kCodes; ++q) {
      const std::span<const float> logits =
          q == 0 ? first_logits_ : batch.decoder().next_logits(static_cast<int64_t>(q), frame[q - 1]);
      frame[q] =
          sampler.sample(logits, static_cast<uint32_t>(number), static_cast<uint32_t>(q), song.rule.allowed(number));
    }
    return frame;
  }

  // As it would be made with this drafter.
  void make_again(LmBatch& batch, const MadeSong& song, RunningFigures& figures) {
    const PhiloxNoise noise(song.seed);
    std::exception_ptr error;
    int64_t made = 0;
    std::vector<std::unique_ptr<Drafter>> drafters = figures.settings.make_drafters(models_.lm_config());
    drafters.front() = std::make_unique<RecordingDrafter>(std::move(drafters.front()), figures);
    FrameLoop loop(batch, DraftController::always(kDraftsOfStep));
    loop.enter({.prompt = &song.prompt,
                .begin = {},
                .settings = song.settings,
                .noise = &noise,
                .drafters = std::move(drafters),
                .frame =
                    [&](int64_t index, const Frame& frame) {
                      if (frame != song.frames[static_cast<size_t>(index)]) throw other_song(song, index);
                      made = index + 1;
                    },
                .ended = [](StopReason) {},
                .failed = [&](std::exception_ptr what) { error = std::move(what); }});
    while (loop.step()) {
    }
    if (error) std::rethrow_exception(error);
    if (made < std::ssize(song.frames)) throw other_song(song, made);
  }

  double mean_entropy() const {
    Mean mean;
    for (const Mean& each : entropy_) mean.add(each.value());
    return mean.value();
  }

  // Entropy grows with the temperature.
  json hot_temperature() const {
    const auto entropy = [this](double temperature) {
      Mean mean;
      for (const std::vector<float>& logits : hot_logits_) mean.add(spread_of(logits, temperature).entropy);
      return mean.value();
    };
    double low = 1e-3;
    double high = 1e3;
    if (!(entropy(low) < kHotEntropy && entropy(high) > kHotEntropy)) return {};
    while (high / low > 1.0001) {
      const double middle = std::sqrt(low * high);
      (entropy(middle) < kHotEntropy ? low : high) = middle;
    }
    return rounded(low);
  }

  const DraftStatisticsOptions& options_;
  const std::function<void(const std::string&)>& note_;
  Models models_;
  std::vector<MadeSong> songs_;
  int64_t frames_ = 0;
  CodeMeans entropy_;
  CodeMeans likeliest_;
  CodeMeans kept_;
  std::vector<std::vector<float>> hot_logits_;
  std::vector<DrafterFigures> drafters_;
  FrameChances resampled_;
  Mean changed_;
  std::array<CodeMeans, kCodes - 1> replaced_;
  std::vector<RunningFigures> running_;
  // Of the open frame.
  std::array<KeptCodes, kCodes> choices_;
  std::vector<float> first_logits_;
};

std::string cell(const json& value, double factor, int digits) {
  return value.is_null() ? fmt::format(" {:>6}", "") : fmt::format(" {:>6.{}f}", factor * value.get<double>(), digits);
}

std::string row(const std::string& name, const json& values, double factor, int digits) {
  std::string text = fmt::format("  {:<22}", name);
  for (const json& value : values) text += cell(value, factor, digits);
  return text;
}

std::string percents(const std::string& name, const json& values) {
  return row(name, values, 100, 1);
}

std::string setting(const json& value) {
  return value.is_null() ? "several" : fmt::format("{:g}", value.get<double>());
}

}  // namespace

json measure_draft_statistics(const DraftStatisticsOptions& options,
                              const std::function<void(const std::string&)>& note, const CancelToken* cancel) {
  return Measurement(options, note, cancel).run();
}

std::string describe_draft_statistics(const json& statistics) {
  const auto& s = statistics;
  std::string text = fmt::format("{} ({}), {} songs, {} frames, temperature {}, topk {}, cfg_scale {}\n",
                                 escaped(s["language_model"].get<std::string>()), s["device"].get<std::string>(),
                                 s["songs"].get<int64_t>(), s["frames"].get<int64_t>(), setting(s["temperature"]),
                                 setting(s["topk"]), setting(s["cfg_scale"]));
  text += fmt::format("{:<24}", "codebook");
  for (size_t q = 0; q < kCodes; ++q) text += fmt::format(" {:>6}", q);
  text += '\n';
  text += row("entropy, nats", s["entropy"], 1, 2);
  text += fmt::format("   mean {:.2f}\n", s["mean_entropy"].get<double>());
  text += percents("likeliest code, %", s["likeliest"]) + "\n";
  text += row("tokens kept", s["kept"], 1, 1) + "\n";

  text += "drafted frame: code right if those before it are, %; whole frames, %; speed promised\n";
  for (const json& drafter : s["drafters"]) {
    text += percents(drafter["drafter"], drafter["right"]) + "  " + cell(drafter["frames"], 100, 2) +
            cell(drafter["speed"]["frames"], 1, 3) + "\n";
  }
  for (const json& drafter : s["running"]) {
    text += percents(drafter["drafter"].get<std::string>() + ", running", drafter["right"]) + "  " +
            cell(drafter["frames"], 100, 2) + cell(drafter["speed"], 1, 3) +
            fmt::format("  {:.3f} of {:.2f} frames a step\n", drafter["accepted"].get<double>(),
                        drafter["drafted"].get<double>());
  }
  const json& resampled = s["resampled_frame"];
  text += percents("behind another frame", resampled["right"]) + "  " + cell(resampled["frames"], 100, 2) + "\n";
  text += percents("  whatever is before", resampled["same"]) + "\n";

  text += "rest of a frame: code right behind the true ones, %; us a guess; speed promised\n";
  for (const json& drafter : s["drafters"]) {
    if (drafter["rest"].is_null()) continue;
    text += percents(drafter["drafter"], drafter["rest"]) + "  " + cell(drafter["microseconds"], 1, 1) +
            cell(drafter["speed"]["rest"], 1, 3) + "\n";
  }
  text += "one code of a frame is another: later codes that stay, %\n";
  for (size_t q = 0; q < s["resampled_code"].size(); ++q) {
    text += percents(fmt::format("codebook {}", q), s["resampled_code"][q]) + "\n";
  }
  const json& hotter = s["hotter"];
  text += hotter["temperature"].is_null()
              ? fmt::format("no temperature gives these logits {:g} nats: topk leaves too few codes\n",
                            hotter["entropy"].get<double>())
              : fmt::format("the same logits have {:g} nats at temperature {:.3g}\n", hotter["entropy"].get<double>(),
                            hotter["temperature"].get<double>());
  return text;
}

}  // namespace heartmula

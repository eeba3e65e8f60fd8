#include "measure/solver_steps.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "audio/audio_writer.h"
#include "base/clock.h"
#include "base/cpu_choice.h"
#include "base/error.h"
#include "base/message.h"
#include "base/thread_pool.h"
#include "checkpoint/models.h"
#include "measure/audio_distances.h"
#include "song/codes_file.h"
#include "song/settings.h"

namespace heartmula {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

const std::vector<std::string> kTries = {
    "steps=20",
    "quality=reference",
    "guidance_steps=0,2,5,8",
    "first_stack_steps=0,2,4,6,8",
    "steps=6",
    "guidance_scale=1",
    "solver=ab2 steps=10",
    "solver=ab2 steps=8",
    "solver=ab2 steps=8 guidance_steps=0,3,6",
    "solver=ab2 steps=6",
    "solver=midpoint steps=4",
    "solver=midpoint steps=3",
    "solver=heun steps=4",
    "solver=dpmpp2m steps=6",
    "solver=ab2 steps=6 grid=sway:0.5",
    "solver=ab2 steps=6 grid=epss",
    "quality=balanced",
    "solver=ab2 steps=6 guidance_steps=0,3",
    "solver=ab2 steps=5 guidance_steps=0,2",
    "quality=fast",
    "solver=ab2 steps=6 guidance_scale=1",
    "solver=ab2 steps=4 guidance_scale=1",
};
const std::string kReference = "quality=reference";
constexpr const char* kReferencePieces = "reference";  // folders of --abx
constexpr const char* kRecommendedPieces = "recommended";

struct Decoded {
  Audio audio;
  std::vector<float> latents;  // of the song's frames, as they became samples
  double seconds = 0;
};

struct Figures {
  double seconds = 0;
  double log_mel_db = 0;
  double si_sdr_db = 0;
  double levels_changed = 0;

  void add(const Figures& more) {
    seconds += more.seconds;
    log_mel_db += more.log_mel_db;
    si_sdr_db += more.si_sdr_db;
    levels_changed += more.levels_changed;
  }
  json mean(double count) const {
    return {{"seconds", seconds / count},
            {"log_mel_db", log_mel_db / count},
            {"si_sdr_db", si_sdr_db / count},
            {"levels_changed", levels_changed / count}};
  }
};

Decoded decode(Models& models, const CodecSettings& settings, std::span<const Frame> frames, int64_t seed) {
  const PhiloxCodecNoise noise(static_cast<uint64_t>(seed));
  Decoded decoded{.audio = {.rate_hz = kSampleRateHz, .channels = {{}, {}}}, .latents = {}};
  SongDecoder decoder(models.codec_ops(), models.codec(), settings, noise,
                      [&](std::span<const float> left, std::span<const float> right) {
                        decoded.audio.channels[0].insert(decoded.audio.channels[0].end(), left.begin(), left.end());
                        decoded.audio.channels[1].insert(decoded.audio.channels[1].end(), right.begin(), right.end());
                      });
  const int64_t channels = models.codec_config().out_channels;
  decoder.set_latent_tap([&](int64_t index, std::span<float> latents) {
    const Window window = window_at(settings.windows, index);
    const auto known = static_cast<size_t>(window.context_latents() * channels);
    decoded.latents.insert(decoded.latents.end(), latents.begin() + static_cast<std::ptrdiff_t>(known), latents.end());
  });
  const Clock::time_point begin = Clock::now();
  decoder.push(frames);
  decoder.finish();
  decoded.seconds = seconds_since(begin);
  decoded.latents.resize(frames.size() * 2 * static_cast<size_t>(channels));
  return decoded;
}

Figures figures_of(const Decoded& decoded, const Decoded& fine, ThreadPool& pool) {
  const AudioDistances distances = audio_distances(decoded.audio, fine.audio, "the try", "the fine solution", pool);
  size_t changed = 0;
  for (size_t i = 0; i < fine.latents.size(); ++i) {
    changed += WaveDecoder::level(decoded.latents[i]) != WaveDecoder::level(fine.latents[i]);
  }
  return {.seconds = decoded.seconds,
          .log_mel_db = distances.log_mel_db,
          .si_sdr_db = std::min(distances.si_sdr_db.value_or(0), 120.0),
          .levels_changed = static_cast<double>(changed) / static_cast<double>(fine.latents.size())};
}

void write_piece(const std::filesystem::path& folder, const std::string& name, const Audio& audio) {
  AudioWriter writer(folder / (name + ".wav"), AudioFormat::kWav, SampleFormat::kS16);
  writer.write(audio.channels[0], audio.channels[1]);
  writer.finish({});
}

CodecSettings fine_settings(WindowScheme windows, int64_t steps) {
  CodecSettings fine;
  fine.flow.solver = FlowSolver::kAb2;
  fine.flow.steps = steps;
  fine.windows = windows;
  fine.short_last_window = true;
  return fine;
}

class Measurement {
 public:
  Measurement(const StepsOptions& options, const std::function<void(const std::string&)>& note,
              const CancelToken* cancel)
      : options_(options),
        note_(note),
        models_({.checkpoint = options.checkpoint, .machine = options.machine}, CheckpointParts::kCodec, cancel),
        pool_(choose_cpus(cpu_topology(), options.machine.threads, "").threads) {
    if (!options.against.empty()) {
      CheckpointSettings checkpoint = options.checkpoint;
      checkpoint.codec_path = options.against;
      teacher_.emplace(ModelOptions{.checkpoint = checkpoint, .machine = options.machine}, CheckpointParts::kCodec,
                       cancel);
    } else if (models_.codec_config().student) {
      throw user_error("{} is a student: name the codec that it learned from with --against",
                       models_.codec_config().source);
    }
    std::vector<std::string> words = options.tries;
    if (words.empty() && models_.codec_config().student) {
      for (const int64_t steps : models_.codec_config().student->steps) words.push_back(fmt::format("steps={}", steps));
    }
    for (const std::string& each : words.empty() ? kTries : words) {
      CodecSettings settings = resolve_codec_settings(parse_try(each), models_.codec_config());
      settings.short_last_window = true;  // a passage is no longer for being padded
      tries_.push_back({each, settings, {}});
    }
    for (const std::string& path : options.codes) passages_.push_back({path, passage(path)});
    if (!options.abx.empty()) prepare_abx();
  }

  json run() {
    for (const Passage& passage : passages_) measure(passage);
    const auto songs = static_cast<double>(options_.codes.size());
    json rows = json::array();
    for (const Try& each : tries_) {
      json row = each.figures.mean(songs);
      row["kind"] = "try";
      row["try"] = each.words;
      row["evaluations"] = flow_cost(each.settings.flow);
      rows.push_back(row);
    }
    for (const auto& [name, figures] : yardsticks_) {
      json row = figures.mean(songs);
      row["kind"] = "yardstick";
      row["try"] = name;
      rows.push_back(row);
    }
    json steps = {{"codes", options_.codes},
                  {"passage_ms", options_.passage_ms},
                  {"fine", fmt::format("ab2, {} steps", options_.fine_steps)},
                  {"codec", models_.codec_identity().name},
                  {"fingerprint", models_.codec_identity().fingerprint},
                  {"device", models_.device()},
                  {"rows", rows},
                  {"recommended", nullptr}};
    if (const Try* best = recommended()) steps["recommended"] = best->words;
    if (!options_.abx.empty()) write_abx();
    return steps;
  }

 private:
  struct Try {
    std::string words;
    CodecSettings settings;
    Figures figures;
  };

  struct Passage {
    std::string path;
    std::vector<Frame> frames;

    std::string name() const { return std::filesystem::path(path).stem().stem().string(); }
  };

  Models& teacher() { return teacher_ ? *teacher_ : models_; }

  std::vector<Frame> passage(const std::string& path) const {
    std::vector<Frame> frames = read_codes(path).frames;
    if (frames.empty()) throw user_error("{}: holds no frames", path);
    frames.resize(std::min(frames.size(), static_cast<size_t>(std::max<int64_t>(options_.passage_ms / kFrameMs, 1))));
    return frames;
  }

  void measure(const Passage& passage) {
    const std::string& path = passage.path;
    const std::vector<Frame>& frames = passage.frames;
    std::map<WindowScheme, Decoded> solutions;  // the fine ones
    const auto fine = [&](WindowScheme windows) -> const Decoded& {
      if (const auto found = solutions.find(windows); found != solutions.end()) return found->second;
      note_(fmt::format("{}: {} fine steps", escaped(path), options_.fine_steps));
      const CodecSettings finely = fine_settings(windows, options_.fine_steps);
      return solutions.emplace(windows, decode(teacher(), finely, frames, options_.seed)).first->second;
    };
    for (Try& each : tries_) {
      const Decoded& solution = fine(each.settings.windows);
      note_(fmt::format("{}: {}", escaped(path), escaped(each.words)));
      each.figures.add(figures_of(decode(models_, each.settings, frames, options_.seed), solution, pool_));
    }
    const Decoded& solution = fine(WindowScheme::kReference);
    note_(fmt::format("{}: yardsticks", escaped(path)));
    const CodecSettings finely = fine_settings(WindowScheme::kReference, options_.fine_steps);
    yardsticks_["other noise, fine"].add(
        figures_of(decode(teacher(), finely, frames, options_.seed + 1), solution, pool_));
    yardsticks_["early windows, fine"].add(figures_of(fine(WindowScheme::kEarly), solution, pool_));
  }

  const Try* find(const std::string& words) const {
    const auto found = std::ranges::find(tries_, words, &Try::words);
    return found == tries_.end() ? nullptr : &*found;
  }

  const Try* recommended() const {
    const Try* reference = find(kReference);
    if (reference == nullptr) return nullptr;
    const Try* best = reference;
    for (const Try& each : tries_) {
      const bool is_near = each.figures.log_mel_db <= reference->figures.log_mel_db;
      if (is_near && flow_cost(each.settings.flow) < flow_cost(best->settings.flow)) best = &each;
    }
    return best;
  }

  // What would be found out after the work.
  void prepare_abx() const {
    if (find(kReference) == nullptr) {
      throw user_error("--abx: compares {} and what is recommended, so that it must be among what is tried",
                       kReference);
    }
    std::set<std::string> names;
    for (const Passage& passage : passages_) {
      if (!names.insert(passage.name()).second) {
        throw user_error("--abx: two songs are named {}: a piece of that name would be of both", passage.name());
      }
    }
    std::error_code error;
    for (const char* system : {kReferencePieces, kRecommendedPieces}) {
      std::filesystem::create_directories(options_.abx / system, error);
      if (error) throw user_error("--abx {}: {}", (options_.abx / system).string(), error.message());
    }
  }

  void write_abx() {
    const Try* best = recommended();
    if (best == nullptr || best->words == kReference) {
      note_(fmt::format("--abx: nothing is as near to the fine solution as {}, and cheaper", kReference));
      return;
    }
    for (const Passage& passage : passages_) {
      write_piece(options_.abx / kReferencePieces, passage.name(),
                  decode(models_, {}, passage.frames, options_.seed).audio);
      write_piece(options_.abx / kRecommendedPieces, passage.name(),
                  decode(models_, best->settings, passage.frames, options_.seed).audio);
    }
  }

  const StepsOptions& options_;
  const std::function<void(const std::string&)>& note_;
  Models models_;
  std::optional<Models> teacher_;
  ThreadPool pool_;
  std::vector<Try> tries_;
  std::vector<Passage> passages_;
  std::map<std::string, Figures> yardsticks_;
};

}  // namespace

CodecSettings parse_try(const std::string& words) {
  Request request;
  std::istringstream stream(words);
  std::vector<std::pair<const Setting*, std::string>> values;
  for (std::string word; stream >> word;) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const Setting* setting = find_setting(name);
    if (setting == nullptr) setting = find_setting("codec_" + name);
    if (equals == std::string::npos || setting == nullptr || setting->group != SettingGroup::kCodec) {
      throw user_error("\"{}\" in \"{}\": is no setting of the codec with a value, such as steps=6", word, words);
    }
    values.emplace_back(setting, word.substr(equals + 1));
  }
  // In the table's order: quality sets others.
  std::ranges::sort(values, {}, &std::pair<const Setting*, std::string>::first);
  for (const auto& [setting, value] : values) {
    setting->type->parse(request, value, setting->name);
    setting->type->check(request, setting->name, setting->hint);
  }
  check_codec_settings(request.codec);
  return request.codec;
}

json measure_solver_steps(const StepsOptions& options, const std::function<void(const std::string&)>& note,
                          const CancelToken* cancel) {
  return Measurement(options, note, cancel).run();
}

std::string describe_solver_steps(const json& steps) {
  std::string text =
      fmt::format("{} ({}), {} passages of at most {:.2f} s, beside {}\n", escaped(steps["codec"].get<std::string>()),
                  steps["device"].get<std::string>(), steps["codes"].size(), steps["passage_ms"].get<double>() * 1e-3,
                  steps["fine"].get<std::string>());
  text += fmt::format("  {:>5} {:>8} {:>9} {:>9} {:>8}\n", "E", "seconds", "log-mel", "SI-SDR", "levels");
  for (const json& row : steps["rows"]) {
    const std::string evaluations =
        row.contains("evaluations") ? fmt::format("{:g}", row["evaluations"].get<double>()) : "";
    text += fmt::format("  {:>5} {:>7.2f} {:>6.2f} dB {:>6.1f} dB {:>6.1f} %  {}\n", evaluations,
                        row["seconds"].get<double>(), row["log_mel_db"].get<double>(), row["si_sdr_db"].get<double>(),
                        100 * row["levels_changed"].get<double>(), escaped(row["try"].get<std::string>()));
  }
  text += "E: evaluations of the whole flow transformer a window, a guided one as two; levels: part that changed\n";
  if (steps["recommended"].is_string()) {
    text += fmt::format("recommended, for it is the cheapest that is as near as {}: {}\n", kReference,
                        escaped(steps["recommended"].get<std::string>()));
  }
  return text;
}

}  // namespace heartmula

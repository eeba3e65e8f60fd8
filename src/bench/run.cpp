#include "bench/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "base/cpu_info.h"
#include "base/error.h"
#include "bench/drafted_stage.h"
#include "bench/open_stage.h"
#include "bench/song_time.h"
#include "bench/stages.h"
#include "checkpoint/device_choice.h"
#include "cuda/cuda_ops.h"

namespace heartmula::bench {

const std::vector<std::string> kStageNames = {"load", "frame",     "drafted",      "prefill",
                                              "open", "flow_step", "wave_decoder", "song"};

namespace {

constexpr int64_t kSongFrames = 2250;                             // three minutes
const std::vector<double> kChances = {0, 0.3, 0.5, 0.7, 0.9, 1};  // of stage "drafted", where it is named
constexpr int kMachineSamples = 3;                                // before the first stage; one more after each

class Runner {
 public:
  Runner(const Options& options, const std::function<void(const std::string&)>& note, const CancelToken* cancel)
      : options_(options),
        note_(note),
        cancel_(cancel),
        source_(options.models),
        device_(choose_device("--device", options.device, 0)),
        result_{machine(), {}, 0} {
    for (const std::string& stage : options.stages) {
      if (std::find(kStageNames.begin(), kStageNames.end(), stage) == kStageNames.end()) {
        throw user_error("there is no stage \"{}\", only {}", stage, fmt::join(kStageNames, ", "));
      }
    }
    if (wants("frame") || wants("prefill") || wants("open")) source_.check_positions(options, options.repeats);
    chances_ = options.right;
    const bool is_named = std::ranges::find(options.stages, "drafted") != options.stages.end();
    if (chances_.empty() && is_named) chances_ = kChances;
    if (wants("open") && device_.is_cuda) note_("stage open is left out: a card does not use weights where they lie");
    lm_ops_ = make_ops(CudaOptions::Rows::kFew);
    if (device_.is_cuda) codec_ops_ = make_ops(CudaOptions::Rows::kMany);
  }

  Result run() {
    note_("the machine");
    for (int i = 0; i < kMachineSamples; ++i) result_.machine.sample();
    if (wants("load") || wants("frame") || wants("prefill") || !chances_.empty()) {
      for (const DType dtype : options_.mula_dtypes) lm_stages(dtype);
    }
    if (wants("open") && !options_.program.empty() && !device_.is_cuda) {
      for (const DType dtype : options_.mula_dtypes) open_stage(dtype);
    }
    if (wants("load") || wants("flow_step") || wants("wave_decoder")) {
      for (const DType dtype : options_.codec_dtypes) codec_stages(dtype);
    }
    if (wants("song")) {
      const SongShape shape{.frames = kSongFrames,
                            .prompt = options_.prompt,
                            .context = options_.context,
                            .codec = resolve_codec_settings(options_.codec, source_.codec_config())};
      for (const DType mula : options_.mula_dtypes) {
        for (const DType codec : options_.codec_dtypes) {
          for (Stage& stage :
               song_stages(result_.stages, mula, codec, shape, source_.lm_config(), result_.machine.limits())) {
            result_.stages.push_back(std::move(stage));
          }
        }
      }
    }
    return std::move(result_);
  }

 private:
  CpuOptions cpu_options() const {
    return {.threads = options_.threads, .cpus = options_.cpus, .measure_streams = true, .isa = {}};
  }

  Machine machine() const {
    if (!device_.is_cuda) return Machine(cpu_options());
    const CudaDevices found = find_cuda_devices();
    return Machine(*find_card(found, device_.index));
  }

  std::unique_ptr<Ops> make_ops(CudaOptions::Rows rows) {
    std::unique_ptr<Ops> ops =
        device_.is_cuda ? make_cuda_ops({.device = device_.index, .rows = rows}) : make_cpu_ops(cpu_options());
    ops = make_metered_ops(std::move(ops), meter_);
    ops->set_cancel_token(cancel_);
    return ops;
  }

  Ops& lm_ops() { return *lm_ops_; }
  Ops& codec_ops() { return codec_ops_ ? *codec_ops_ : *lm_ops_; }

  std::optional<uint64_t> available_memory() const {
    if (!device_.is_cuda) return memory_info().available_bytes;
    const CudaDevices found = find_cuda_devices();
    const CudaDevice* card = find_card(found, device_.index);
    return card == nullptr ? 0 : static_cast<uint64_t>(card->free_bytes);
  }

  bool wants(const std::string& stage) const {
    const std::vector<std::string>& wanted = options_.stages;
    const auto named = [&](const std::string& name) {
      return std::find(wanted.begin(), wanted.end(), name) != wanted.end();
    };
    return wanted.empty() || named(stage) || (stage != "load" && stage != "open" && named("song"));
  }

  /// The probe's buffer, which lies beside the weights between the stages, does not count.
  void take_peak() { result_.peak_memory_bytes = std::max(result_.peak_memory_bytes, peak_memory_bytes()); }

  template <typename Measure>
  void add(const std::string& name, DType dtype, const Measure& measure) {
    note_(fmt::format("{} ({})", name, short_name(dtype)));
    reset_peak_memory();
    result_.stages.push_back(measure());
    take_peak();
    result_.machine.sample();
  }

  template <typename Load>
  auto load(const std::string& what, DType dtype, int64_t bytes, const Load& load_model) {
    const std::optional<uint64_t> available = available_memory();
    if (available && bytes > static_cast<int64_t>(*available)) {
      throw user_error("the {} in {} takes {:.1f} GB, but {:.1f} GB are available; choose other dtypes or stages", what,
                       short_name(dtype), static_cast<double>(bytes) * 1e-9, static_cast<double>(*available) * 1e-9);
    }
    note_(fmt::format("loading the {} ({})", what, short_name(dtype)));
    const Clock::time_point begin = Clock::now();
    reset_peak_memory();
    auto model = load_model();
    take_peak();
    if (wants("load")) {
      Stage stage = stage_of("load", dtype, what);
      stage.seconds.values.push_back(seconds_since(begin));
      result_.stages.push_back(std::move(stage));
    }
    return model;
  }

  void lm_stages(DType dtype) {
    const HeartMula model =
        load("language model", dtype, source_.lm_bytes(dtype), [&] { return source_.load_lm(lm_ops(), dtype); });
    if (wants("frame")) {
      for (const int64_t songs : options_.songs) {
        add(fmt::format("frame, {} songs", songs), dtype,
            [&] { return measure_frame(lm_ops(), meter_, model, songs, options_.context, options_.repeats); });
      }
    }
    if (!chances_.empty()) {
      DraftedFrames frames(lm_ops(), meter_, model, options_.context, std::ranges::max(options_.drafts),
                           source_.load_draft_model(lm_ops(), options_.draft_model, dtype));
      for (const double right : chances_) {
        for (const int64_t drafts : options_.drafts) {
          add(fmt::format("drafted frames, oracle:{}, {} drafts", right, drafts), dtype,
              [&] { return frames.measure(right, drafts); });
        }
      }
    }
    if (wants("prefill")) {
      add("prefill", dtype, [&] { return measure_prefill(lm_ops(), meter_, model, options_.prompt, few_repeats()); });
    }
  }

  void open_stage(DType dtype) {
    FirstLogits work{.models = options_.models,
                     .folder = {},
                     .dtype = dtype,
                     .threads = options_.threads,
                     .cpus = options_.cpus,
                     .context = options_.context,
                     .repeats = few_repeats()};
    std::error_code error;
    const auto folder = std::filesystem::temp_directory_path(error);
    if (error) throw user_error("TMPDIR is no folder: stage open needs one to write weights to");
    result_.stages.push_back(
        measure_open(options_.program, folder / "heartmula-bench", lm_ops(), source_, std::move(work), note_, cancel_));
  }

  void codec_stages(DType dtype) {
    const HeartCodec codec =
        load("codec", dtype, source_.codec_bytes(dtype), [&] { return source_.load_codec(codec_ops(), dtype); });
    if (wants("flow_step")) {
      add("flow_step", dtype, [&] { return measure_flow_step(codec_ops(), meter_, codec, few_repeats()); });
    }
    if (wants("wave_decoder")) {
      add("wave_decoder", dtype, [&] { return measure_wave_decoder(codec_ops(), meter_, codec, few_repeats()); });
    }
  }

  int64_t few_repeats() const { return std::max<int64_t>(1, (options_.repeats + 2) / 3); }

  const Options& options_;
  std::vector<double> chances_;  // of stage "drafted"
  const std::function<void(const std::string&)>& note_;
  const CancelToken* cancel_;
  ModelSource source_;
  WorkMeter meter_;
  Device device_;
  std::unique_ptr<Ops> lm_ops_;
  std::unique_ptr<Ops> codec_ops_;  // on a card, where its weights lie in another way
  Result result_;
};

}  // namespace

Result run(const Options& options, const std::function<void(const std::string& text)>& note,
           const CancelToken* cancel) {
  return Runner(options, note, cancel).run();
}

}  // namespace heartmula::bench

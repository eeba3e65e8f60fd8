#include "bench/prediction.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/json_fields.h"
#include "bench/drafted_stage.h"
#include "bench/dry_ops.h"
#include "bench/song_time.h"
#include "bench/stages.h"
#include "cpu/cpu_ops.h"
#include "cuda/packed.h"

namespace heartmula::bench {
namespace {

constexpr double kGiga = 1e9;
constexpr int64_t kGuidanceStreams = 2;

/// Of the stages "frame", "drafted" and "frame_4_songs"; 0 of all others.
double songs_of(const std::string& stage) {
  if (stage == "frame" || stage == "drafted") return 1;
  int songs = 0;
  return std::sscanf(stage.c_str(), "frame_%d_songs", &songs) == 1 && songs > 0 ? songs : 0;
}

/// How much matrices take on a card.
class CardLayout final : public DryOps {
 public:
  CardLayout(const Ops& host, PackedLayout (*layout)(DType)) : DryOps(host), layout_(layout) {}
  PackedLayout packed_layout(DType dtype) const override { return layout_(dtype); }

 private:
  PackedLayout (*layout_)(DType);
};

class Predictor {
 public:
  Predictor(const MachineDescription& machine, const PlanOptions& options)
      : machine_(machine),
        options_(options),
        source_(options.models),
        device_(make_cpu_ops({.threads = 1, .isa = {}})),
        ops_(make_metered_ops(std::make_unique<DryOps>(*device_), meter_)) {
    source_.check_positions(options, 1);
  }

  Prediction predict() {
    std::vector<Stage> stages;
    for (const DType dtype : options_.mula_dtypes) lm_stages(dtype, stages);
    for (const DType dtype : options_.codec_dtypes) codec_stages(dtype, stages);
    const SongShape shape{.frames = options_.frames,
                          .prompt = options_.prompt,
                          .context = options_.context,
                          .codec = resolve_codec_settings(options_.codec, source_.codec_config()),
                          .codec_share = machine_.codec_share()};
    std::vector<Prediction::Memory> memory;
    std::vector<Stage> songs;
    for (const DType mula : options_.mula_dtypes) {
      for (const DType codec : options_.codec_dtypes) {
        const MemoryPlan plan = memory_plan(mula, codec);
        memory.push_back({short_name(mula) + "+" + short_name(codec), plan, machine_.peak_of(plan)});
        for (Stage& stage : song_stages(stages, mula, codec, shape, source_.lm_config(), machine_.limits)) {
          songs.push_back(std::move(stage));
        }
      }
    }
    for (Stage& stage : songs) stages.push_back(std::move(stage));
    return {machine_, std::move(stages), std::move(memory)};
  }

 private:
  /// Puts the time that the machine would take in the place of that of the dry run.
  void time(Stage& stage, double efficiency, double operation_seconds) const {
    stage.seconds.values = {stage.limit(machine_.limits) / efficiency + stage.work.operations * operation_seconds};
    for (Stage& part : stage.parts) time(part, efficiency, operation_seconds);
    // What is not counted, as sampling, takes no time that matters.
    std::erase_if(stage.parts, [](const Stage& part) { return part.work.bytes == 0 && part.work.flop == 0; });
  }

  void add(Stage stage, std::vector<Stage>& stages) const {
    // Only in a frame do operations wait for one another longer than they work.
    time(stage, machine_.efficiency_of(stage), songs_of(stage.name) > 0 ? machine_.operation_seconds : 0);
    stages.push_back(std::move(stage));
  }

  void lm_stages(DType dtype, std::vector<Stage>& stages) {
    const HeartMula model = source_.load_lm(*ops_, dtype);
    for (const int64_t songs : options_.songs) {
      add(measure_frame(*ops_, meter_, model, songs, options_.context, 1), stages);
    }
    if (!options_.right.empty()) {
      DraftedFrames frames(*ops_, meter_, model, options_.context, std::ranges::max(options_.drafts),
                           source_.load_draft_model(*ops_, options_.draft_model, dtype));
      for (const double right : options_.right) {
        for (const int64_t drafts : options_.drafts) add(frames.measure(right, drafts), stages);
      }
    }
    add(measure_prefill(*ops_, meter_, model, options_.prompt, 1), stages);
  }

  void codec_stages(DType dtype, std::vector<Stage>& stages) {
    const HeartCodec codec = source_.load_codec(*ops_, dtype);
    add(measure_flow_step(*ops_, meter_, codec, 1), stages);
    add(measure_wave_decoder(*ops_, meter_, codec, 1), stages);
  }

  MemoryPlan memory_plan(DType mula, DType codec) {
    MemoryPlan plan;
    plan.lazy_load = options_.lazy_load;
    plan.program = kProgramBytes;
    const Device device{.is_cuda = machine_.is_card()};
    const Ops& lm_layout = device.is_cuda ? static_cast<const Ops&>(lm_card_) : *device_;
    const Ops& codec_layout = device.is_cuda ? static_cast<const Ops&>(codec_card_) : *device_;
    plan.songs = options_.songs.size() == 1 ? options_.songs.front() : 1;
    plan.lm = plan_lm_memory(
        {lm_layout, device}, source_.lm_store(), source_.lm_config(), mula,
        {.songs = plan.songs, .streams = kGuidanceStreams, .positions = options_.prompt + options_.frames});
    plan.codec = plan_codec_memory({codec_layout, device}, source_.codec_store(), source_.codec_config(), codec,
                                   resolve_codec_settings(options_.codec, source_.codec_config()));
    const auto fits = [&] { return static_cast<double>(machine_.peak_of(plan)) <= machine_.memory_bytes; };
    if (device.is_cuda && !plan.lazy_load && !fits()) {  // a card then holds one model at a time, if it can
      plan.lazy_load = true;
      plan.lazy_load = fits();
    }
    return plan;
  }

  const MachineDescription& machine_;
  const PlanOptions& options_;
  ModelSource source_;
  WorkMeter meter_;
  std::unique_ptr<Ops> device_;
  std::unique_ptr<Ops> ops_;
  CardLayout lm_card_{*device_, cuda::few_layout};
  CardLayout codec_card_{*device_, cuda::many_layout};
};

}  // namespace

MachineDescription MachineDescription::read(const std::filesystem::path& path) {
  const nlohmann::json json = read_json_object(path);
  const JsonFields fields(json, path.string());
  constexpr double kMost = 1e6;
  constexpr double kLeast = 1e-3;
  MachineDescription machine;
  machine.name = fields.text("name");
  machine.isa = fields.text("isa");
  if (machine.is_card()) {
    machine.operation_seconds = 1e-6 * fields.number("operation_us", 0, 1e3);
    machine.shares_memory = fields.has("shares_memory") && fields.flag("shares_memory");
  } else {
    machine.threads = fields.integer("threads", 1, 4096);
    machine.memory_threads = fields.integer_or("memory_threads", 1, machine.threads, machine.threads);
  }
  machine.memory_bytes = kGiga * fields.number("memory_gb", kLeast, kMost);
  machine.limits = {.read_bytes_s = kGiga * fields.number("read_gb_s", kLeast, kMost),
                    .f32_flop_s = kGiga * fields.number("f32_gflop_s", kLeast, kMost),
                    .bf16_flop_s = kGiga * fields.number("bf16_gflop_s", kLeast, kMost)};
  machine.source = fields.text("source");
  const JsonFields efficiency = fields.object("efficiency");
  for (const auto& [stage, by_dtype] : json.at("efficiency").items()) {
    const JsonFields dtypes = efficiency.object(stage.c_str());
    for (const auto& [dtype, value] : by_dtype.items()) {
      machine.efficiency[stage][dtype] = dtypes.number(dtype.c_str(), kLeast, 1.1);
    }
  }
  return machine;
}

int64_t MachineDescription::peak_of(const MemoryPlan& plan) const {
  if (!is_card()) return plan.peak();
  const int64_t card = plan.card_peak(plan.cards().front());
  return shares_memory ? card + plan.peak() : card;
}

double MachineDescription::efficiency_of(const Stage& stage) const {
  const double songs = songs_of(stage.name);
  std::optional<double> nearest;
  double least_distance = 0;
  for (const auto& [known, by_dtype] : efficiency) {
    const auto found = by_dtype.find(stage.dtype);
    if (found == by_dtype.end()) continue;
    if (known == stage.name) return found->second;
    const double other = songs_of(known);
    if (songs == 0 || other == 0) continue;
    const double distance = std::fabs(std::log(songs / other));
    if (!nearest || distance < least_distance) {
      nearest = found->second;
      least_distance = distance;
    }
  }
  if (nearest) return *nearest;
  throw user_error("the description of {} has no efficiency of {} with {} weights: `heartmula bench` prints it", name,
                   stage.name, stage.dtype);
}

Prediction predict(const MachineDescription& machine, const PlanOptions& options) {
  return Predictor(machine, options).predict();
}

}  // namespace heartmula::bench

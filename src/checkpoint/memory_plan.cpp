#include "checkpoint/memory_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/counting_ops.h"

namespace heartmula {
namespace {

// tokenizer.json takes about six times its size in tables.
constexpr int64_t kTokenizerFactor = 6;
constexpr int64_t kFaultBytes = 64 << 10;  // what the system maps around a row that is read
// A weight that is stored as direction and magnitude is put together in memory, beside what is stored.
constexpr int64_t kCodecCopies = 2;

double gigabytes(int64_t bytes) {
  return static_cast<double>(bytes) * 1e-9;
}

// What `rows` random rows of an embedding table take.
int64_t touched_bytes(const Table& table, int64_t rows) {
  const int64_t row = table.rows.cols * static_cast<int64_t>(dtype_size(table.rows.dtype));
  return std::min(table.rows.rows * row, rows * (row + kFaultBytes));
}

// What makes the plan fit, or else what makes it smaller.
std::string advice(const MemoryPlan& plan, const CheckpointSettings& checkpoint, int64_t available) {
  struct Remedy {
    const char* flag;
    MemoryPlan plan;
  };
  std::vector<Remedy> remedies;
  if (plan.lm && plan.codec && !plan.lazy_load) {
    remedies.push_back({"--lazy_load true (one model at a time)", plan});
    remedies.back().plan.lazy_load = true;
  }
  if (plan.codec && checkpoint.codec_dtype == DType::kF32) {
    remedies.push_back({"--codec_dtype bf16", plan});
    remedies.back().plan.codec->weights /= 2;
  }
  if (plan.lm && checkpoint.mula_dtype == DType::kF32) {
    remedies.push_back({"--mula_dtype bf16", plan});
    remedies.back().plan.lm->weights /= 2;
  }
  for (const int64_t enough : {available, plan.peak() - 1}) {
    for (const Remedy& remedy : remedies) {
      if (remedy.plan.peak() <= enough) return remedy.flag;
    }
  }
  return "a shorter --max_audio_length_ms, or a machine with more memory";
}

}  // namespace

int64_t MemoryPlan::peak() const {
  const StageMemory none;
  const StageMemory& l = lm ? *lm : none;
  const StageMemory& c = codec ? *codec : none;
  if (lazy_load) return program + std::max(l.peak(), c.peak());
  return program + std::max({l.peak(), l.weights + c.peak(), l.working() + c.working()});
}

StageMemory plan_lm_memory(const Ops& device, const WeightStore& store, const LmConfig& config, DType dtype,
                           int64_t streams, int64_t context, int64_t frames_at_once) {
  CountingOps loading(device, &store);
  const HeartMula model = HeartMula::load(loading, store, config, dtype);
  CountingOps working(device);
  const LmSession session(working, model, streams, context);
  const int64_t embeddings = touched_bytes(model.audio_embeddings, std::min(context, frames_at_once) * kCodebooks);
  return {.weights = loading.matrix_bytes() + loading.mapped_bytes() + loading.tensor_bytes(),
          .mapped = loading.mapped_bytes(),
          .cache = working.cache_bytes(),
          .activations = working.tensor_bytes() + embeddings,
          .loading = loading.source_bytes()};
}

StageMemory plan_codec_memory(const Ops& device, const WeightStore& store, const CodecConfig& config, DType dtype,
                              const CodecSettings& settings) {
  CountingOps loading(device, &store);
  const HeartCodec codec = HeartCodec::load(loading, store, config, dtype);
  CountingOps working(device);
  const PhiloxCodecNoise noise(0);
  const SongDecoder decoder(working, codec, settings, noise, {});
  return {.weights = loading.matrix_bytes() + loading.mapped_bytes() + loading.tensor_bytes(),
          .mapped = loading.mapped_bytes(),
          .activations = working.tensor_bytes() + decoder.host_bytes(),
          .loading = kCodecCopies * loading.source_bytes()};
}

MemoryPlan plan_memory(Models& models, const SongSize& song) {
  const ModelOptions& options = models.options();
  MemoryPlan plan;
  plan.lazy_load = options.machine.lazy_load;
  plan.program = kProgramBytes;
  if (song.context > 0) {
    plan.lm = plan_lm_memory(models.lm_ops(), models.lm_store(), models.lm_config(), options.checkpoint.mula_dtype,
                             song.streams, song.context, song.frames_at_once);
    std::error_code error;
    const uintmax_t bytes = std::filesystem::file_size(models.paths().tokenizer, error);
    if (!error) plan.program += kTokenizerFactor * static_cast<int64_t>(bytes);
  }
  plan.codec = plan_codec_memory(models.codec_ops(), models.codec_store(), models.codec_config(),
                                 options.checkpoint.codec_dtype, song.codec);
  return plan;
}

void check_memory(const MemoryPlan& plan, const CheckpointSettings& checkpoint,
                  std::optional<uint64_t> available_bytes) {
  if (!available_bytes) return;
  const auto available = static_cast<int64_t>(*available_bytes);
  if (plan.peak() <= available) return;
  throw user_error("not enough memory: the plan needs {:.2f} GB, but {:.2f} GB are available; use {}",
                   gigabytes(plan.peak()), gigabytes(available), advice(plan, checkpoint, available));
}

std::string describe(const MemoryPlan& plan, std::optional<uint64_t> available_bytes) {
  std::string text = "memory plan (GB)      weights    cache  activations\n";
  const auto add = [&text](const char* name, const std::optional<StageMemory>& stage) {
    if (!stage) return;
    text += fmt::format("  {:<18} {:>8.3f} {:>8.3f} {:>12.3f}\n", name, gigabytes(stage->weights),
                        gigabytes(stage->cache), gigabytes(stage->activations));
  };
  add("language model", plan.lm);
  add("codec", plan.codec);
  const bool both = plan.lm && plan.codec && !plan.lazy_load;
  const std::string available =
      available_bytes ? fmt::format("{:.3f} GB", gigabytes(static_cast<int64_t>(*available_bytes))) : "unknown";
  text += fmt::format("  peak {:.3f} GB{}, available {}", gigabytes(plan.peak()), both ? " (both models at once)" : "",
                      available);
  return text;
}

nlohmann::json to_json(const MemoryPlan& plan) {
  nlohmann::json json = {{"program_bytes", plan.program}, {"peak_bytes", plan.peak()}, {"lazy_load", plan.lazy_load}};
  const auto add = [&json](const char* name, const std::optional<StageMemory>& stage) {
    if (!stage) return;
    json[name] = {{"weights_bytes", stage->weights},
                  {"mapped_bytes", stage->mapped},
                  {"cache_bytes", stage->cache},
                  {"activations_bytes", stage->activations}};
  };
  add("language_model", plan.lm);
  add("codec", plan.codec);
  return json;
}

}  // namespace heartmula

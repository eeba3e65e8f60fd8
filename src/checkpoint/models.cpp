#include "checkpoint/models.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/lora.h"
#include "cpu/cpu_ops.h"
#include "tensor/fingerprint.h"

namespace heartmula {
namespace {

/// Less is read from the cache, or so soon that the number of threads does not matter.
constexpr int64_t kManyBytes = 200'000'000;

OpListener* listener(const ModelOptions& options, Profile::Track track) {
  return options.profile == nullptr ? nullptr : &options.profile->operations(track);
}

std::unique_ptr<Ops> make_ops(const CpuOptions& options, WorkTotals& totals, const CancelToken* cancel) {
  std::unique_ptr<Ops> ops = make_metered_ops(make_cpu_ops(options), totals);
  ops->set_cancel_token(cancel);
  return ops;
}

void log_unused(const WeightStore& store) {
  for (const std::string& name : store.unused()) spdlog::debug("{}: {} is not used", store.path().string(), name);
}

std::string with_adapters(const std::string& model, std::vector<std::string> adapters) {
  if (adapters.empty()) return model;
  std::ranges::sort(adapters);  // their order changes nothing
  return fingerprint(nlohmann::json{{"model", model}, {"lora", adapters}}.dump(), WeightStore());
}

// gen_config.json and config.json must be of one checkpoint.
void check_ids(const GenConfig& ids, const LmConfig& config, const std::string& source) {
  const auto check = [&](const char* field, int64_t id, int64_t greatest) {
    if (id <= greatest) return;
    throw user_error("{}: {} is {}, but the greatest for {} is {}; are the two of one checkpoint?", source, field, id,
                     config.source, greatest);
  };
  check("text_bos_id", ids.text_bos_id, config.text_vocab_size - 1);
  check("text_eos_id", ids.text_eos_id, config.text_vocab_size - 1);
  check("empty_id", ids.empty_id, config.text_vocab_size - 1);
  check("audio_eos_id", ids.audio_eos_id, config.audio_vocab_size);  // this one is no code: no song ends by itself
}

}  // namespace

Models::Models(const ModelOptions& options, CheckpointParts parts, const CancelToken* cancel)
    : options_(options),
      cancel_(cancel),
      paths_(find_checkpoint(options.checkpoint, parts)),
      codec_config_(read_codec_config(paths_.codec / "config.json")),
      lm_totals_(listener(options, Profile::Track::kLanguageModel)),
      codec_totals_(listener(options, Profile::Track::kCodec)),
      codec_ops_(make_ops({.threads = options.machine.threads,
                           .cpus = options.machine.cpus,
                           .cpus_backwards = true,
                           .isa = {},
                           .lock_weights = options.machine.mlock},
                          codec_totals_, cancel)) {
  for (const std::string& note : paths_.notes) warn(note);
  if (parts != CheckpointParts::kCodec) lm_config_ = read_lm_config(paths_.mula / "config.json");
  if (parts == CheckpointParts::kAll) {
    gen_config_ = GenConfig::open(paths_.gen_config);
    check_ids(*gen_config_, *lm_config_, paths_.gen_config.string());
  }
}

Models::~Models() = default;

// A packed checkpoint that cannot be used as it lies is copied into memory: slower to open, and a surprise.
void Models::warn_of_repacking(const WeightStore& store, const Ops& ops, DType dtype) {
  if (store.packed() == nullptr || store.packed()->layout == ops.packed_layout(dtype)) return;
  const PackedLayout& layout = store.packed()->layout;
  const std::string path = store.path().string();
  std::string warning;
  if (layout.dtype == dtype) {
    warning = fmt::format(
        "{}: packed in panels of {} by {}, but this machine's kernels want {} by {}: packed again in memory, "
        "which takes time at each start; `heartmula convert` on this machine makes a checkpoint that fits",
        path, layout.panel_width, layout.k_per_group, ops.packed_layout(dtype).panel_width,
        ops.packed_layout(dtype).k_per_group);
  } else if (dtype == DType::kBF16) {
    warning = fmt::format(
        "{}: packed as float32 and asked for as bfloat16: packed again in memory, which takes time at each "
        "start; `heartmula convert` with bfloat16 makes a checkpoint that fits",
        path);
  } else {
    warning = fmt::format(
        "{}: its weights were rounded to bfloat16 when they were packed, and float32 does not bring back what "
        "was lost; `heartmula convert` with float32 on the stock checkpoint keeps them as they are",
        path);
  }
  warn(std::move(warning));
}

void Models::warn(std::string warning) {
  spdlog::warn(warning);
  warnings_.push_back(std::move(warning));
}

const Tokenizer& Models::tokenizer() {
  if (!tokenizer_) tokenizer_.emplace(Tokenizer::open(paths_.tokenizer));
  return *tokenizer_;
}

void Models::set_cancel_token(const CancelToken* cancel) {
  cancel_ = cancel;
  codec_ops_->set_cancel_token(cancel);
  if (lm_ops_) lm_ops_->set_cancel_token(cancel);
}

Ops& Models::lm_ops() {
  if (!lm_ops_) {
    lm_ops_ = make_ops({.threads = options_.machine.threads,
                        .cpus = options_.machine.cpus,
                        .measure_streams = lm_store().total_bytes() >= kManyBytes,
                        .isa = {},
                        .lock_weights = options_.machine.mlock},
                       lm_totals_, cancel_);
  }
  return *lm_ops_;
}

const WeightStore& Models::lm_store() {
  if (!lm_store_) {
    WeightStore store = WeightStore::open(paths_.mula);
    for (const std::string& folder : options_.checkpoint.lora) merge_lora(folder, store, *lm_config_);
    lm_store_.emplace(std::move(store));
  }
  return *lm_store_;
}

const WeightStore& Models::codec_store() {
  if (!codec_store_) codec_store_.emplace(WeightStore::open(paths_.codec));
  return *codec_store_;
}

const HeartMula& Models::lm() {
  if (!lm_) {
    warn_of_repacking(lm_store(), lm_ops(), options_.checkpoint.mula_dtype);
    lm_.emplace(HeartMula::load(lm_ops(), lm_store(), *lm_config_, options_.checkpoint.mula_dtype));
    log_unused(lm_store());
  }
  return *lm_;
}

const HeartCodec& Models::codec() {
  if (!codec_) {
    warn_of_repacking(codec_store(), *codec_ops_, options_.checkpoint.codec_dtype);
    codec_.emplace(HeartCodec::load(*codec_ops_, codec_store(), codec_config_, options_.checkpoint.codec_dtype));
    log_unused(codec_store());
    codec_store_.reset();
  }
  return *codec_;
}

const ModelIdentity& Models::lm_identity() {
  if (!lm_identity_) {
    ModelIdentity identity{.name = folder_name(paths_.mula),
                           .fingerprint = fingerprint(read_file(paths_.mula / "config.json"), lm_store())};
    std::vector<std::string> adapters;
    for (const std::string& folder : options_.checkpoint.lora) {
      identity.lora.push_back(folder_name(folder));
      adapters.push_back(lora_fingerprint(folder));
    }
    identity.fingerprint = with_adapters(identity.fingerprint, std::move(adapters));
    lm_identity_ = std::move(identity);
  }
  return *lm_identity_;
}

const ModelIdentity& Models::codec_identity() {
  if (!codec_identity_) {
    codec_identity_ = {.name = folder_name(paths_.codec),
                       .fingerprint = fingerprint(read_file(paths_.codec / "config.json"), codec_store())};
  }
  return *codec_identity_;
}

void Models::release_embeddings() {
  for (const char* name : {"text_embeddings.weight", "audio_embeddings.weight"}) {
    lm_store().release(lm_store().get(name));
  }
}

void Models::unload_lm() {
  lm_.reset();
  lm_store_.reset();
}

void Models::unload_codec() {
  codec_.reset();
}

}  // namespace heartmula

#include "song/models.h"

#include <spdlog/spdlog.h>

#include "cpu/cpu_ops.h"

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

}  // namespace

Models::Models(const ModelOptions& options, CheckpointParts parts, const CancelToken* cancel)
    : options_(options),
      cancel_(cancel),
      paths_(find_checkpoint(options.model_path, options.version, parts)),
      codec_config_(read_codec_config(paths_.codec / "config.json")),
      lm_totals_(listener(options, Profile::Track::kLanguageModel)),
      codec_totals_(listener(options, Profile::Track::kCodec)),
      codec_ops_(make_ops({.threads = options.threads, .cpus = options.cpus, .cpus_backwards = true, .isa = {}},
                          codec_totals_, cancel)) {
  if (parts == CheckpointParts::kAll) {
    lm_config_ = read_lm_config(paths_.mula / "config.json");
    gen_config_ = GenConfig::open(paths_.gen_config);
  }
}

Models::~Models() = default;

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
    lm_ops_ = make_ops({.threads = options_.threads,
                        .cpus = options_.cpus,
                        .measure_streams = lm_store().total_bytes() >= kManyBytes,
                        .isa = {}},
                       lm_totals_, cancel_);
  }
  return *lm_ops_;
}

const WeightStore& Models::lm_store() {
  if (!lm_store_) lm_store_.emplace(WeightStore::open(paths_.mula));
  return *lm_store_;
}

const WeightStore& Models::codec_store() {
  if (!codec_store_) codec_store_.emplace(WeightStore::open(paths_.codec));
  return *codec_store_;
}

const HeartMula& Models::lm() {
  if (!lm_) {
    lm_.emplace(HeartMula::load(lm_ops(), lm_store(), *lm_config_, options_.mula_dtype));
    log_unused(lm_store());
  }
  return *lm_;
}

const HeartCodec& Models::codec() {
  if (!codec_) {
    codec_.emplace(HeartCodec::load(*codec_ops_, codec_store(), codec_config_, options_.codec_dtype));
    log_unused(codec_store());
    codec_store_.reset();
  }
  return *codec_;
}

void Models::unload_lm() {
  lm_.reset();
  lm_store_.reset();
}

void Models::unload_codec() {
  codec_.reset();
}

}  // namespace heartmula

#include "checkpoint/models.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/lora.h"
#include "cpu/cpu_ops.h"
#include "cuda/cuda_ops.h"
#include "tensor/fingerprint.h"

namespace heartmula {
namespace {

/// Less is read from the cache, or so soon that the number of threads does not matter.
constexpr int64_t kManyBytes = 200'000'000;

OpListener* listener(const ModelOptions& options, Profile::Track track) {
  return options.profile == nullptr ? nullptr : &options.profile->operations(track);
}

void log_unused(const WeightStore& store) {
  for (const std::string& name : store.unused()) spdlog::debug("{}: {} is not used", store.path().string(), name);
}

std::string with_adapters(const std::string& model, std::vector<std::string> adapters) {
  if (adapters.empty()) return model;
  std::ranges::sort(adapters);  // their order changes nothing
  return fingerprint(nlohmann::json{{"model", model}, {"lora", adapters}}.dump(), WeightStore());
}

}  // namespace

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

Models::Models(const ModelOptions& options, CheckpointParts parts, const CancelToken* cancel)
    : options_(options),
      cancel_(cancel),
      paths_(find_checkpoint(options.checkpoint, parts)),
      codec_config_(read_codec_config(paths_.codec / "config.json")),
      lm_totals_(listener(options, Profile::Track::kLanguageModel)),
      codec_totals_(listener(options, Profile::Track::kCodec)) {
  for (const std::string& note : paths_.notes) warn(note);
  if (parts != CheckpointParts::kCodec) {
    lm_config_ = read_lm_config(paths_.mula / "config.json");
    skip_layers(*lm_config_, options_.checkpoint.skip_layers);
  }
  if (parts == CheckpointParts::kAll) {
    gen_config_ = GenConfig::open(paths_.gen_config);
    check_ids(*gen_config_, *lm_config_, paths_.gen_config.string());
  }
  if (parts == CheckpointParts::kAll) open_draft_file();
  devices_ = choose_devices(options_.machine, device_needs(parts));
  if (!devices_.note.empty()) warn(devices_.note);
  codec_ops_ = make_ops(Profile::Track::kCodec);
}

Models::~Models() = default;

// Before anything is loaded: a file that does not fit is told of at once.
void Models::open_draft_file() {
  const DraftSettings drafts = options_.machine.drafts();
  std::filesystem::path path = drafts.file;
  if (drafts.kind == DrafterKind::kAuto) {
    path = paths_.tokenizer.parent_path() / "drafter.safetensors";
    if (!std::filesystem::exists(path)) return;
  } else if (drafts.kind != DrafterKind::kFile) {
    return;
  }
  draft_file_.emplace(DraftFile::open(path, *lm_config_));
  if (drafts.kind == DrafterKind::kFile && drafts.frames.value_or(0) > 0 && !draft_file_->config.drafts_frames()) {
    throw user_error("--draft_frames {}: {} only guesses the rest of each frame; use 0", *drafts.frames, drafts.file);
  }
}

DraftSettings Models::drafts(const MachineSettings& machine) {
  DraftSettings settings = machine.drafts();
  if (!draft_file_ || (settings.kind != DrafterKind::kAuto && settings.kind != DrafterKind::kFile)) return settings;
  if (!draft_model_) {
    draft_model_ =
        std::make_shared<DraftModel>(DraftModel::load(lm_ops(), *draft_file_, options_.checkpoint.mula_dtype));
  }
  settings.model = draft_model_;
  return settings;
}

// Weights by their shapes, and what a long song adds to them; the plan of a song's memory is exact and comes later.
DeviceNeeds Models::device_needs(CheckpointParts parts) const {
  constexpr int64_t kSongPositions = 3400;  // four minutes and a prompt
  constexpr int64_t kStreams = 2;
  constexpr int64_t kBesideWeights = 600'000'000;  // the device's own, and activations
  const auto weights = [](const std::vector<ExpectedTensor>& tensors, DType dtype) {
    int64_t bytes = 0;
    for (const ExpectedTensor& tensor : tensors) {
      if (tensor.name == "text_embeddings.weight") continue;  // stays with the host
      bytes += tensor.elements() * static_cast<int64_t>(dtype_size(tensor.is_table ? DType::kBF16 : dtype));
    }
    return bytes;
  };
  DeviceNeeds needs;
  if (lm_config_) {
    const TransformerConfig& c = lm_config_->backbone;
    const int64_t cached = 2 * kStreams * std::min(c.max_seq_len, kSongPositions) * c.num_layers * c.kv_dim();
    needs.lm = weights(HeartMula::expected_tensors(*lm_config_), options_.checkpoint.mula_dtype) + kBesideWeights +
               cached * static_cast<int64_t>(dtype_size(options_.checkpoint.mula_dtype));
  }
  const WeightStore none = WeightStore::of(SafetensorsFile::in_memory(nullptr, {}, "none"));
  needs.codec =
      weights(HeartCodec::expected_tensors(codec_config_, none), options_.checkpoint.codec_dtype) + kBesideWeights;
  if (parts == CheckpointParts::kCodec) needs.lm = 0;
  return needs;
}

std::unique_ptr<Ops> Models::make_ops(Profile::Track track) {
  const bool is_lm = track == Profile::Track::kLanguageModel;
  const MachineSettings& machine = options_.machine;
  const Device& device = is_lm ? devices_.lm : devices_.codec;
  std::unique_ptr<Ops> ops;
  if (device.is_cuda) {
    ops = make_cuda_ops({.device = device.index,
                         .rows = is_lm ? CudaOptions::Rows::kFew : CudaOptions::Rows::kMany,
                         .background = is_lm && devices_.lm == devices_.codec});
  } else {
    ops = make_cpu_ops({.threads = machine.threads,
                        .cpus = machine.cpus,
                        .cpus_backwards = !is_lm && devices_.share_cpu(),
                        .measure_streams = is_lm && lm_store().total_bytes() >= kManyBytes,
                        .isa = {},
                        .lock_weights = machine.mlock});
  }
  if (options_.profile != nullptr) {
    if (!limits_ || device != limits_device_) limits_ = DeviceLimits::measure(device, machine);
    limits_device_ = device;
    options_.profile->set_device(track, ops->description(), *limits_, ops->works_ahead());
  }
  ops = make_metered_ops(std::move(ops), is_lm ? lm_totals_ : codec_totals_);
  ops->set_cancel_token(cancel_);
  return ops;
}

void Models::take_less_memory(bool lazy_load, bool bf16_codec) {
  if (lazy_load) options_.machine.lazy_load = true;
  if (bf16_codec) options_.checkpoint.codec_dtype = DType::kBF16;
}

std::string Models::device() const {
  std::string codec = codec_ops_->description();
  if (!lm_ops_) return codec;
  const std::string lm = lm_ops_->description();
  return devices_.lm == devices_.codec ? lm : fmt::format("{}; codec on {}", lm, codec);
}

nlohmann::json Models::stage_devices() const {
  nlohmann::json devices = {{"codec", codec_ops_->description()}};
  if (lm_ops_) devices["language_model"] = lm_ops_->description();
  return devices;
}

// A packed checkpoint that cannot be used as it lies is copied into memory: slower to open, and a surprise.
void Models::warn_of_repacking(const WeightStore& store, const Ops& ops, DType dtype, const Device& device) {
  if (store.packed() == nullptr) return;
  const PackedLayout& layout = store.packed()->layout;
  if (device.is_cuda && (layout.dtype == dtype || dtype == DType::kBF16)) return;  // is packed at each start anyway
  if (!device.is_cuda && layout == ops.packed_layout(dtype)) return;
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
  if (!lm_ops_) lm_ops_ = make_ops(Profile::Track::kLanguageModel);
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
  if (!codec_store_) codec_store_.emplace(HeartCodec::open_weights(paths_.codec, codec_config_));
  return *codec_store_;
}

const HeartMula& Models::lm() {
  if (!lm_) {
    warn_of_repacking(lm_store(), lm_ops(), options_.checkpoint.mula_dtype, devices_.lm);
    lm_.emplace(HeartMula::load(lm_ops(), lm_store(), *lm_config_, options_.checkpoint.mula_dtype));
    log_unused(lm_store());
  }
  return *lm_;
}

const HeartCodec& Models::codec() {
  if (!codec_) {
    warn_of_repacking(codec_store(), *codec_ops_, options_.checkpoint.codec_dtype, devices_.codec);
    codec_.emplace(HeartCodec::load(*codec_ops_, codec_store(), codec_config_, options_.checkpoint.codec_dtype));
    log_unused(codec_store());
    codec_store_.reset();
  }
  return *codec_;
}

// From a store of its own: the codec's belongs to another thread by then.
const CodeGroups& Models::code_groups() {
  if (!code_groups_) {
    const WeightStore store = HeartCodec::open_weights(paths_.codec, codec_config_);
    std::array<std::vector<float>, kCodebooks> vectors;
    for (int64_t q = CodeGroups::kFirstCodebook; q < kCodebooks; ++q) {
      vectors[static_cast<size_t>(q)] = ResidualVq::codebook(lm_ops(), store, q);
    }
    code_groups_.emplace(std::move(vectors), codec_config_.codebook_dim);
  }
  return *code_groups_;
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
    if (const int64_t skipped = lm_config_->backbone.skipped; skipped > 0) {
      const nlohmann::json other = {{"model", identity.fingerprint}, {"skip_layers", skipped}};
      identity.fingerprint = fingerprint(other.dump(), WeightStore());
    }
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
  draft_model_.reset();
  lm_store_.reset();
}

void Models::unload_codec() {
  codec_.reset();
}

}  // namespace heartmula

#include "checkpoint/memory_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/cpu_info.h"
#include "base/error.h"
#include "base/message.h"
#include "checkpoint/counting_ops.h"
#include "cuda/packed.h"

namespace heartmula {
namespace {

// tokenizer.json takes about six times its size in tables.
constexpr int64_t kTokenizerFactor = 6;
constexpr int64_t kFaultBytes = 64 << 10;  // what the system maps around a row that is read
// A weight that is stored as direction and magnitude is put together in memory, beside what is stored.
constexpr int64_t kCodecCopies = 2;
// Beside a card, in memory that the system cannot take away.
constexpr int64_t kPinnedBytes = cuda::kPackBuffers * cuda::kPackBufferBytes;
// Of a card: what its library takes, and programs that were recorded.
constexpr int64_t kCardBytes = 250'000'000;
constexpr int64_t kScratchBytes = 50'000'000;        // partial sums of products and attention
constexpr int64_t kCodecScratchBytes = 150'000'000;  // and of the codec, for windows of rows
constexpr int64_t kSongTexts = 4096;                 // positions of a prompt

// What `rows` random rows of an embedding table take.
int64_t touched_bytes(const Table& table, int64_t rows) {
  const int64_t row = table.rows.cols * static_cast<int64_t>(dtype_size(table.rows.dtype));
  return std::min(table.rows.rows * row, rows * (row + kFaultBytes));
}

// What a memory holds of the two stages, at least all the time and at most.
struct Share {
  int64_t weights = 0;
  int64_t working = 0;
  int64_t peak = 0;
};

int64_t peak_of(const Share& lm, const Share& codec, bool one_at_a_time) {
  if (one_at_a_time) return std::max(lm.peak, codec.peak);
  return std::max({lm.peak, lm.weights + codec.peak, lm.working + codec.working});
}

Share on_host(const std::optional<StageMemory>& stage) {
  if (!stage) return {};
  if (!stage->device.is_cuda) return {stage->weights, stage->working(), stage->peak()};
  return {kPinnedBytes, kPinnedBytes + stage->host, kPinnedBytes + std::max(stage->loading, stage->host)};
}

Share on_card(const std::optional<StageMemory>& stage, const Device& card) {
  if (!stage || stage->device != card) return {};
  return {stage->weights, stage->working(), stage->working()};
}

// The first card that holds less than the plan needs there; null if there is none.
const CudaDevice* overfull_card(const MemoryPlan& plan, const AvailableMemory& available) {
  for (const Device& device : plan.cards()) {
    const CudaDevice* card = find_card(available.cuda, device.index);
    if (card != nullptr && plan.card_peak(device) > card->free_bytes) return card;
  }
  return nullptr;
}

// Of the machine's memory, with what cards take that share it.
int64_t host_peak(const MemoryPlan& plan, const AvailableMemory& available) {
  int64_t bytes = plan.peak();
  for (const Device& device : plan.cards()) {
    const CudaDevice* card = find_card(available.cuda, device.index);
    if (card != nullptr && card->shares_memory) bytes += plan.card_peak(device);
  }
  return bytes;
}

// Of everything that the plan takes.
int64_t total_peak(const MemoryPlan& plan) {
  int64_t bytes = plan.peak();
  for (const Device& card : plan.cards()) bytes += plan.card_peak(card);
  return bytes;
}

// Every saving that there is for this plan, those first that change least.
std::vector<std::pair<MemorySaving, MemoryPlan>> savings(const MemoryPlan& plan, const CheckpointSettings& checkpoint) {
  const bool can_be_lazy = plan.lm && plan.codec && !plan.lazy_load;
  const bool can_be_bf16 = plan.codec && checkpoint.codec_dtype == DType::kF32;
  std::vector<std::pair<MemorySaving, MemoryPlan>> all;
  for (const MemorySaving& saving : {MemorySaving{.lazy_load = true}, MemorySaving{.bf16_codec = true},
                                     MemorySaving{.lazy_load = true, .bf16_codec = true}}) {
    if ((saving.lazy_load && !can_be_lazy) || (saving.bf16_codec && !can_be_bf16)) continue;
    MemoryPlan smaller = plan;
    smaller.lazy_load = plan.lazy_load || saving.lazy_load;
    if (saving.bf16_codec) smaller.codec->weights /= 2;
    all.emplace_back(saving, smaller);
  }
  return all;
}

// What makes the plan fit, or else what comes nearest to it.
std::string advice(const MemoryPlan& plan, const CheckpointSettings& checkpoint, const AvailableMemory& available) {
  struct Remedy {
    std::string flags;
    MemoryPlan plan;
  };
  std::vector<Remedy> remedies;
  for (const auto& [saving, smaller] : savings(plan, checkpoint)) remedies.push_back({saving.flags(), smaller});
  if (plan.lm && checkpoint.mula_dtype == DType::kF32) {
    MemoryPlan small = plan;
    small.lm->weights /= 2;
    remedies.push_back({"--mula_dtype bf16", small});
  }
  for (const Remedy& remedy : remedies) {
    if (fits(remedy.plan, available)) return remedy.flags;
  }
  std::string rest = plan.cards().empty() ? "a shorter --max_audio_length_ms, or a machine with more memory"
                                          : "a shorter --max_audio_length_ms, a card with more memory, or --device cpu";
  const auto least = std::ranges::min_element(remedies, {}, [](const Remedy& r) { return total_peak(r.plan); });
  if (least == remedies.end() || total_peak(least->plan) >= total_peak(plan)) return rest;
  return fmt::format("{}, which needs the least ({:.2f} GB, still too much), and {}", least->flags,
                     gigabytes(total_peak(least->plan)), rest);
}

}  // namespace

bool fits(const MemoryPlan& plan, const AvailableMemory& available) {
  if (overfull_card(plan, available) != nullptr) return false;
  return !available.host || host_peak(plan, available) <= static_cast<int64_t>(*available.host);
}

int64_t MemoryPlan::peak() const {
  return program + peak_of(on_host(lm), on_host(codec), lazy_load);
}

int64_t MemoryPlan::card_peak(const Device& card) const {
  return kCardBytes + peak_of(on_card(lm, card), on_card(codec, card), lazy_load);
}

std::vector<Device> MemoryPlan::cards() const {
  std::vector<Device> cards;
  for (const std::optional<StageMemory>* stage : {&lm, &codec}) {
    if (!*stage || !(*stage)->device.is_cuda) continue;
    if (std::ranges::find(cards, (*stage)->device) == cards.end()) cards.push_back((*stage)->device);
  }
  return cards;
}

AvailableMemory AvailableMemory::now(const MemoryPlan& plan) {
  AvailableMemory available{.host = memory_info().available_bytes};
  if (!plan.cards().empty()) available.cuda = find_cuda_devices();
  return available;
}

StageMemory plan_lm_memory(const StagePlace& place, const WeightStore& store, const LmConfig& config, DType dtype,
                           const LmBatchSize& size, int64_t frames_at_once) {
  CountingOps loading(place.layout, &store);
  const HeartMula model = HeartMula::load(loading, store, config, dtype);
  CountingOps working(place.layout);
  const LmBatch batch(working, model, size);
  StageMemory memory{.weights = loading.matrix_bytes() + loading.mapped_bytes() + loading.tensor_bytes(),
                     .mapped = loading.mapped_bytes(),
                     .cache = working.cache_bytes(),
                     .activations = working.tensor_bytes(),
                     .loading = loading.source_bytes(),
                     .device = place.device};
  const int64_t rows = size.songs * std::min(size.positions, frames_at_once) * kCodebooks;
  if (place.device.is_cuda) {
    memory.weights += loading.placed_bytes();
    memory.loading = std::max(memory.loading, loading.placed_bytes());
    memory.activations += kScratchBytes;
    memory.host = touched_bytes(model.text_embeddings, std::min(size.positions, kSongTexts));
  } else {
    memory.activations += touched_bytes(model.audio_embeddings, rows);
  }
  return memory;
}

StageMemory plan_codec_memory(const StagePlace& place, const WeightStore& store, const CodecConfig& config, DType dtype,
                              const CodecSettings& settings, int64_t frames) {
  CountingOps loading(place.layout, &store);
  const HeartCodec codec = HeartCodec::load(loading, store, config, dtype);
  CountingOps working(place.layout);
  const PhiloxCodecNoise noise(0);
  const SongDecoder decoder(working, codec, settings, noise, {}, frames);
  StageMemory memory{.weights = loading.matrix_bytes() + loading.mapped_bytes() + loading.tensor_bytes(),
                     .mapped = loading.mapped_bytes(),
                     .activations = working.tensor_bytes(),
                     .loading = kCodecCopies * loading.source_bytes(),
                     .device = place.device};
  if (place.device.is_cuda) {
    memory.weights += loading.placed_bytes();
    memory.activations += kCodecScratchBytes;
    memory.host = decoder.host_bytes();
  } else {
    memory.activations += decoder.host_bytes();
  }
  return memory;
}

MemoryPlan plan_memory(Models& models, const SongSize& song) {
  const ModelOptions& options = models.options();
  MemoryPlan plan;
  plan.lazy_load = models.one_at_a_time();
  plan.program = kProgramBytes;
  plan.songs = song.songs;
  if (song.context > 0) {
    const LmBatchSize size = {.songs = song.songs,
                              .streams = song.streams,
                              .positions = song.context,
                              .frames = song.frames_of_pass,
                              .pages = song.pages};
    plan.lm = plan_lm_memory({models.lm_ops(), models.devices().lm}, models.lm_store(), models.lm_config(),
                             options.checkpoint.mula_dtype, size, song.frames_at_once);
    plan.pages = size.room();
    plan.most_pages = size.most_pages();
    if (const DraftFile* drafter = models.draft_file()) {
      CountingOps loading(models.lm_ops(), &drafter->store);
      DraftModel::load(loading, *drafter, options.checkpoint.mula_dtype);
      plan.lm->weights += loading.matrix_bytes() + loading.tensor_bytes();
      if (plan.lm->device.is_cuda) plan.lm->weights += loading.placed_bytes();
    }
    std::error_code error;
    const uintmax_t bytes = std::filesystem::file_size(models.paths().tokenizer, error);
    if (!error) plan.program += kTokenizerFactor * static_cast<int64_t>(bytes);
  }
  plan.codec = plan_codec_memory({models.codec_ops(), models.devices().codec}, models.codec_store(),
                                 models.codec_config(), options.checkpoint.codec_dtype,
                                 resolve_codec_settings(song.codec, models.codec_config()), song.frames);
  return plan;
}

std::string MemorySaving::flags() const {
  if (!lazy_load) return "--codec_dtype bf16";
  return bf16_codec ? "--codec_dtype bf16 --lazy_load true" : "--lazy_load true (one model at a time)";
}

std::optional<MemorySaving> find_saving(const MemoryPlan& plan, const CheckpointSettings& checkpoint,
                                        const AvailableMemory& available) {
  if (fits(plan, available)) return std::nullopt;
  for (const auto& [saving, smaller] : savings(plan, checkpoint)) {
    if (fits(smaller, available)) return saving;
  }
  return std::nullopt;
}

void check_memory(const MemoryPlan& plan, const CheckpointSettings& checkpoint, const AvailableMemory& available) {
  if (fits(plan, available)) return;
  if (const CudaDevice* card = overfull_card(plan, available)) {
    throw user_error("not enough memory on {}: the plan needs {:.2f} GB, but {:.2f} of its {:.2f} GB are free; use {}",
                     describe(*card), gigabytes(plan.card_peak({.is_cuda = true, .index = card->index})),
                     gigabytes(card->free_bytes), gigabytes(card->memory_bytes), advice(plan, checkpoint, available));
  }
  throw user_error("not enough memory: the plan needs {:.2f} GB, but {:.2f} GB are available; use {}",
                   gigabytes(host_peak(plan, available)), gigabytes(static_cast<int64_t>(*available.host)),
                   advice(plan, checkpoint, available));
}

std::string describe(const MemoryPlan& plan, const AvailableMemory& available) {
  std::string text = "memory plan (GB)      weights    cache  activations\n";
  const bool has_cards = !plan.cards().empty();
  const auto add = [&](const char* name, const std::optional<StageMemory>& stage) {
    if (!stage) return;
    text += fmt::format("  {:<18} {:>8.3f} {:>8.3f} {:>12.3f}{}\n", name, gigabytes(stage->weights),
                        gigabytes(stage->cache), gigabytes(stage->activations),
                        has_cards ? "  on " + stage->device.name() : "");
  };
  add("language model", plan.lm);
  add("codec", plan.codec);
  if (plan.songs > 1) {
    text += fmt::format("  {} songs at once", plan.songs);
    if (plan.pages < plan.most_pages) {
      text += fmt::format("; keys and values have {} pages of the {} that they need if all are the longest", plan.pages,
                          plan.most_pages);
    }
    text += '\n';
  }
  const bool together = plan.lm && plan.codec && !plan.lazy_load && plan.lm->device == plan.codec->device;
  const char* both = together ? " (both models at once)" : "";
  for (const Device& device : plan.cards()) {
    const CudaDevice* card = find_card(available.cuda, device.index);
    text += fmt::format("  {} peak {:.3f} GB{}, available {}\n", device.name(), gigabytes(plan.card_peak(device)), both,
                        card == nullptr ? "unknown" : fmt::format("{:.3f} GB", gigabytes(card->free_bytes)));
  }
  const std::string host =
      available.host ? fmt::format("{:.3f} GB", gigabytes(static_cast<int64_t>(*available.host))) : "unknown";
  text += fmt::format("  {}peak {:.3f} GB{}, available {}", has_cards ? "beside them " : "", gigabytes(plan.peak()),
                      has_cards ? "" : both, host);
  return text;
}

nlohmann::json to_json(const MemoryPlan& plan) {
  nlohmann::json json = {{"program_bytes", plan.program}, {"peak_bytes", plan.peak()}, {"lazy_load", plan.lazy_load}};
  const auto add = [&json](const char* name, const std::optional<StageMemory>& stage) {
    if (!stage) return;
    json[name] = {{"weights_bytes", stage->weights},
                  {"mapped_bytes", stage->mapped},
                  {"cache_bytes", stage->cache},
                  {"activations_bytes", stage->activations},
                  {"device", stage->device.name()}};
  };
  add("language_model", plan.lm);
  add("codec", plan.codec);
  if (plan.songs > 1) {
    json["songs_at_once"] = plan.songs;
    json["kv_pages"] = plan.pages;
  }
  for (const Device& card : plan.cards()) json["cards"][card.name()] = {{"peak_bytes", plan.card_peak(card)}};
  return json;
}

}  // namespace heartmula

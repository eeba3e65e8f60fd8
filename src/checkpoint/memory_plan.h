// What a song will take of the machine's memory and of its cards', before anything is loaded.
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/models.h"
#include "lm/batch.h"

namespace heartmula {

/// Bytes.
struct StageMemory {
  int64_t weights = 0;
  int64_t mapped = 0;  // of the weights: used where they lie in a packed checkpoint
  int64_t cache = 0;   // keys and values
  int64_t activations = 0;
  int64_t loading = 0;  // of stored tensors on their way to packed ones; gone when the work begins
  Device device = {};   // where all of this is, but for what is being loaded
  int64_t host = 0;     // beside a card: what stays with the host

  int64_t working() const { return weights + cache + activations; }
  int64_t peak() const { return weights + std::max(loading, cache + activations); }
};

struct MemoryPlan {
  std::optional<StageMemory> lm;     // none when only codes are decoded
  std::optional<StageMemory> codec;  // none when the codec is not needed
  int64_t program = 0;               // itself and the tokenizer
  bool lazy_load = false;
  int64_t songs = 1;       // at once
  int64_t pages = 0;       // of keys and values, of all songs; as many as LmBatchSize::room()
  int64_t most_pages = 0;  // that they need if all are the longest

  /// Of the machine's memory.
  int64_t peak() const;
  /// Of a card's memory.
  int64_t card_peak(const Device& card) const;
  /// The cards that compute, each once.
  std::vector<Device> cards() const;
};

/// The program itself, its libraries and the stacks of its threads.
inline constexpr int64_t kProgramBytes = 32'000'000;

/// Where a stage computes: `layout` says how large packed matrices are there.
struct StagePlace {
  const Ops& layout;
  Device device = {};
};

/// Of the language model and a batch of songs. A song that goes on from codes reads the embeddings of all of them
/// before it gives any back: `frames_at_once`.
StageMemory plan_lm_memory(const StagePlace& place, const WeightStore& store, const LmConfig& config, DType dtype,
                           const LmBatchSize& size, int64_t frames_at_once = kEmbeddingFrames);
StageMemory plan_codec_memory(const StagePlace& place, const WeightStore& store, const CodecConfig& config, DType dtype,
                              const CodecSettings& settings, int64_t frames = 1);

/// What a song asks of the models.
struct SongSize {
  int64_t songs = 1;                          // at once in the language model
  int64_t frames_of_pass = 1;                 // of each: LmBatchSize::frames
  int64_t streams = 2;                        // its rows for a song
  int64_t context = 0;                        // its positions; 0 if only the codec is needed
  int64_t pages = 0;                          // LmBatchSize::pages
  int64_t frames_at_once = kEmbeddingFrames;  // of plan_lm_memory
  CodecSettings codec = {};
  int64_t frames = 1;  // of the song, at most: for a codec that makes all windows at once
};
MemoryPlan plan_memory(Models& models, const SongSize& song);

/// The memory that can be had.
struct AvailableMemory {
  std::optional<uint64_t> host;  // nothing if the system does not say
  CudaDevices cuda = {};

  /// As it is now; cards are asked only if the plan has one.
  static AvailableMemory now(const MemoryPlan& plan);
};

bool fits(const MemoryPlan& plan, const AvailableMemory& available);

/// How a song takes less memory.
struct MemorySaving {
  bool lazy_load = false;   // one model at a time
  bool bf16_codec = false;  // the codec's weights in bfloat16

  /// The flags that do it.
  std::string flags() const;
};
/// Nothing if the plan fits, or if no saving makes it fit; else the one that changes least.
std::optional<MemorySaving> find_saving(const MemoryPlan& plan, const CheckpointSettings& checkpoint,
                                        const AvailableMemory& available);

/// Throws Error(kUser) with a suggestion if the plan's peak is more than there is, of the machine's memory or a card's.
void check_memory(const MemoryPlan& plan, const CheckpointSettings& checkpoint, const AvailableMemory& available);

/// A line a stage, for people.
std::string describe(const MemoryPlan& plan, const AvailableMemory& available);
nlohmann::json to_json(const MemoryPlan& plan);

}  // namespace heartmula

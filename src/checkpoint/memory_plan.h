// What a song will take of the machine's memory, before anything is loaded.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "checkpoint/models.h"

namespace heartmula {

/// Bytes.
struct StageMemory {
  int64_t weights = 0;
  int64_t mapped = 0;  // of the weights: used where they lie in a packed checkpoint
  int64_t cache = 0;   // keys and values
  int64_t activations = 0;
  int64_t loading = 0;  // of stored tensors on their way to packed ones; gone when the work begins

  int64_t working() const { return weights + cache + activations; }
  int64_t peak() const { return weights + std::max(loading, cache + activations); }
};

struct MemoryPlan {
  std::optional<StageMemory> lm;     // none when only codes are decoded
  std::optional<StageMemory> codec;  // none when the codec is not needed
  int64_t program = 0;               // itself and the tokenizer
  bool lazy_load = false;

  int64_t peak() const;
};

/// The program itself, its libraries and the stacks of its threads.
inline constexpr int64_t kProgramBytes = 32'000'000;

/// Of the language model on `device`: `streams` rows a song with `context` positions. A song that goes on from codes
/// reads the embeddings of all of them before it gives any back: `frames_at_once`.
StageMemory plan_lm_memory(const Ops& device, const WeightStore& store, const LmConfig& config, DType dtype,
                           int64_t streams, int64_t context, int64_t frames_at_once = kEmbeddingFrames);
StageMemory plan_codec_memory(const Ops& device, const WeightStore& store, const CodecConfig& config, DType dtype,
                              const CodecSettings& settings);

/// What a song asks of the models.
struct SongSize {
  int64_t streams = 2;                        // rows of the language model
  int64_t context = 0;                        // its positions; 0 if only the codec is needed
  int64_t frames_at_once = kEmbeddingFrames;  // of plan_lm_memory
  CodecSettings codec = {};
};
MemoryPlan plan_memory(Models& models, const SongSize& song);

/// Throws Error(kUser) with a suggestion if the plan's peak is more than `available_bytes`, if they are known.
void check_memory(const MemoryPlan& plan, const CheckpointSettings& checkpoint,
                  std::optional<uint64_t> available_bytes);

/// A line a stage, for people.
std::string describe(const MemoryPlan& plan, std::optional<uint64_t> available_bytes);
nlohmann::json to_json(const MemoryPlan& plan);

}  // namespace heartmula

// The models that are measured: of a checkpoint, or of random weights that only exist in memory.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/settings.h"
#include "codec/heartcodec.h"
#include "decode/draft_model.h"
#include "lm/heartmula.h"
#include "tensor/weight_store.h"

namespace heartmula::bench {

/// Where weights come from: either a checkpoint (its dtypes are StageChoice's) or `synthetic`.
struct ModelChoice {
  CheckpointSettings checkpoint = {};
  std::string synthetic = {};  // "3B" or "7B", or a folder with the configurations of a checkpoint

  bool names_checkpoint() const;
};

/// What every stage is measured or predicted with.
struct StageChoice {
  ModelChoice models;
  std::vector<DType> mula_dtypes = {DType::kBF16};
  std::vector<DType> codec_dtypes = {DType::kF32};
  std::vector<int64_t> songs = {1, 4};            // at once
  std::vector<double> right = {};                 // chances of codes of an oracle that drafts; none: nobody drafts
  std::vector<int64_t> drafts = {0, 1, 2, 3, 4};  // frames that it drafts in a step
  std::string draft_model = {};                   // that computes beside the oracle: "3B", a drafter file, or none
  int64_t context = 512;                          // positions in the cache before a frame
  int64_t prompt = 400;                           // positions of a prefill
  CodecSettings codec = {};                       // of the song that is put together
};

class ModelSource {
 public:
  /// Throws Error(kUser) if the choice names no model.
  explicit ModelSource(const ModelChoice& choice);

  const LmConfig& lm_config() const { return lm_config_; }
  const CodecConfig& codec_config() const { return codec_config_; }
  /// Throws Error(kUser) if the language model has fewer positions than frames and prefill would use.
  void check_positions(const StageChoice& choice, int64_t repeats) const;
  /// Random weights all begin at the same address, and more of them than memory has are no harm until they are packed.
  const WeightStore& lm_store();
  const WeightStore& codec_store();
  /// Bytes of the packed weights, to a few per cent.
  int64_t lm_bytes(DType dtype) const;
  int64_t codec_bytes(DType dtype) const;

  /// The source must outlive the model: its embeddings stay where they are.
  HeartMula load_lm(Ops& ops, DType dtype);
  HeartCodec load_codec(Ops& ops, DType dtype);
  /// A drafter file, or "3B": random weights of the sizes of train/configs/drafter_3b.toml; null for no name. Throws
  /// Error(kUser) if it does not fit the language model.
  std::shared_ptr<const DraftModel> load_draft_model(Ops& ops, const std::string& name, DType dtype) const;

 private:
  ModelChoice choice_;
  LmConfig lm_config_;
  CodecConfig codec_config_;
  std::string lm_folder_;
  std::string codec_folder_;
  std::optional<WeightStore> lm_store_;
  std::optional<WeightStore> codec_store_;
};

}  // namespace heartmula::bench

// The models of one checkpoint, loaded when they are first needed.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/device_choice.h"
#include "checkpoint/profile.h"
#include "checkpoint/settings.h"
#include "codec/heartcodec.h"
#include "decode/draft_settings.h"
#include "lm/heartmula.h"
#include "sampling/acceptance.h"
#include "tensor/weight_store.h"
#include "text/gen_config.h"
#include "text/tokenizer.h"

namespace heartmula {

struct ModelOptions {
  CheckpointSettings checkpoint;
  MachineSettings machine = {};
  Profile* profile = nullptr;  // hears of every operation; must outlive the models
};

/// Which model it is: its folder's name for people, and for programs what another folder with the same weights shares.
struct ModelIdentity {
  std::string name;
  std::string fingerprint;             // fingerprint.h, of model and adapters; packing does not change it
  std::vector<std::string> lora = {};  // names of the folders of merged adapters
};

/// gen_config.json, which is `source`, and config.json must be of one checkpoint: throws Error(kUser) about an id
/// beyond the vocabulary.
void check_ids(const GenConfig& ids, const LmConfig& config, const std::string& source);

/// So often a song calls Models::release_embeddings.
constexpr int64_t kEmbeddingFrames = 64;

/// Language model and codec have an Ops each, so that one thread may use the one while another uses the other.
class Models {
 public:
  /// Finds and checks the files and reads the configurations; no weights yet.
  Models(const ModelOptions& options, CheckpointParts parts, const CancelToken* cancel);
  ~Models();

  const CheckpointPaths& paths() const { return paths_; }
  const ModelOptions& options() const { return options_; }
  const LmConfig& lm_config() const { return *lm_config_; }
  const CodecConfig& codec_config() const { return codec_config_; }
  const GenConfig& gen_config() const { return *gen_config_; }
  const Tokenizer& tokenizer();

  const StageDevices& devices() const { return devices_; }
  /// Whether only one model may be in memory: it was asked for, or the card holds no more.
  bool one_at_a_time() const { return options_.machine.lazy_load || devices_.one_at_a_time; }
  /// Before anything is loaded: one model at a time, or the codec's weights in bfloat16, or both.
  void take_less_memory(bool lazy_load, bool bf16_codec);
  /// What computes, for the summary: one text if both stages are on one device.
  std::string device() const;
  /// {"language_model": text, "codec": text}, of the stages that were used.
  nlohmann::json stage_devices() const;

  /// What the user should know of the checkpoint, as far as it was loaded.
  const std::vector<std::string>& warnings() const { return warnings_; }

  /// What the operations of each model had to do so far.
  const WorkTotals& lm_totals() const { return lm_totals_; }
  const WorkTotals& codec_totals() const { return codec_totals_; }

  /// Must outlive the calls; null for none.
  void set_cancel_token(const CancelToken* cancel);
  /// Made when it is first asked for: how many threads to decode with may take a measurement.
  Ops& lm_ops();
  Ops& codec_ops() { return *codec_ops_; }
  const WeightStore& lm_store();
  const WeightStore& codec_store();
  const HeartMula& lm();
  const HeartCodec& codec();
  /// As `machine` says, with the drafter file that it names or that lies beside the tokenizer, if the drafter is
  /// "auto".
  DraftSettings drafts(const MachineSettings& machine);
  /// That file; null if there is none.
  const DraftFile* draft_file() const { return draft_file_ ? &*draft_file_ : nullptr; }
  /// Which codes sound alike to the codec, which need not be loaded for it.
  const CodeGroups& code_groups();
  /// Reads a little of each tensor when it is first asked for.
  const ModelIdentity& lm_identity();
  const ModelIdentity& codec_identity();
  bool has_lm() const { return lm_.has_value(); }
  bool has_codec() const { return codec_.has_value(); }
  /// Gives back the memory of the embeddings' rows that were read so far; the file still has them.
  void release_embeddings();
  void unload_lm();
  void unload_codec();

 private:
  void open_draft_file();
  std::unique_ptr<Ops> make_ops(Profile::Track track);
  DeviceNeeds device_needs(CheckpointParts parts) const;
  void warn(std::string warning);
  void warn_of_repacking(const WeightStore& store, const Ops& ops, DType dtype, const Device& device);

  ModelOptions options_;
  const CancelToken* cancel_;
  CheckpointPaths paths_;
  std::optional<LmConfig> lm_config_;
  CodecConfig codec_config_;
  std::optional<GenConfig> gen_config_;
  std::optional<Tokenizer> tokenizer_;
  WorkTotals lm_totals_;
  WorkTotals codec_totals_;
  StageDevices devices_;
  std::optional<DeviceLimits> limits_;  // for the profile, of limits_device_
  Device limits_device_;
  std::unique_ptr<Ops> lm_ops_;
  std::unique_ptr<Ops> codec_ops_;
  std::optional<WeightStore> lm_store_;
  std::optional<WeightStore> codec_store_;
  std::optional<HeartMula> lm_;
  std::optional<DraftFile> draft_file_;
  std::shared_ptr<const DraftModel> draft_model_;
  std::optional<CodeGroups> code_groups_;
  std::optional<HeartCodec> codec_;
  std::optional<ModelIdentity> lm_identity_;
  std::optional<ModelIdentity> codec_identity_;
  std::vector<std::string> warnings_;
};

}  // namespace heartmula

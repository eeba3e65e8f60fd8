// The files of a checkpoint in the official layout (heartlib's --model_path).
#pragma once

#include <filesystem>
#include <string>

namespace heartmula {

struct CheckpointPaths {
  std::filesystem::path tokenizer;   // tokenizer.json
  std::filesystem::path gen_config;  // gen_config.json
  std::filesystem::path mula;        // HeartMuLa-oss-3B/
  std::filesystem::path codec;       // HeartCodec-oss/
};

/// Which parts of a checkpoint a command needs.
enum class CheckpointParts { kAll, kCodec };

/// Looks for HeartMuLa-oss-VERSION and HeartCodec-oss, or the one folder of a released variant of either
/// (HeartMuLa-RL-oss-3B-20260123, HeartCodec-oss-20260123, ...). Throws Error(kUser) that lists everything missing and
/// says how to download it.
CheckpointPaths find_checkpoint(const std::filesystem::path& model_path, const std::string& version,
                                CheckpointParts parts);

}  // namespace heartmula

// The files of a checkpoint in the official layout (heartlib's --model_path), or wherever its parts are.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/settings.h"

namespace heartmula {

struct CheckpointPaths {
  std::filesystem::path tokenizer;   // tokenizer.json
  std::filesystem::path gen_config;  // gen_config.json
  std::filesystem::path mula;        // HeartMuLa-oss-3B/
  std::filesystem::path codec;       // HeartCodec-oss/
  std::vector<std::string> notes;    // where one of several folders was taken: which, and how to take another
};

/// Which parts of a checkpoint a command needs; kModels: without tokenizer.
enum class CheckpointParts { kAll, kModels, kCodec };

/// What the parts' own settings name, and in model_path whatever they do not.
///
/// The language model is the folder HeartMuLa-oss-VERSION, HeartMuLa-VERSION or VERSION itself, or the one released
/// variant of that size (HeartMuLa-oss-VERSION-*, HeartMuLa-RL-oss-VERSION*); the codec is HeartCodec-oss or the one
/// HeartCodec-oss-*. gen_config.json lies beside the tokenizer, or in model_path. Throws Error(kUser) that lists
/// everything missing, or all folders that could be meant, and says what to do. Nothing is opened.
CheckpointPaths find_checkpoint(const CheckpointSettings& settings, CheckpointParts parts);

/// What a checkpoint with these paths calls its two folders when it is written again, so that find_checkpoint takes
/// them: the names that they have, if they are names of models.
std::string packed_mula_name(const CheckpointPaths& paths);
std::string packed_codec_name(const CheckpointPaths& paths);

/// "HeartMuLa-oss-3B" of "ckpt/HeartMuLa-oss-3B/" or of "." in there.
std::string folder_name(const std::filesystem::path& folder);

/// The names of all folders in `model_path` that a language model may be in, in order.
std::vector<std::string> language_models_in(const std::filesystem::path& model_path);

}  // namespace heartmula

// The trained parts of a drafter file, which train/ makes (decoding.md 5, 8.8, 8.9).
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lm/heartmula.h"
#include "tensor/weight_store.h"

namespace heartmula {

/// What a drafter file is made of, by its metadata "heartmula_drafter".
struct DraftConfig {
  std::string source;  // the file, for messages
  int64_t embed_dim = 0;
  int64_t audio_vocab_size = 0;
  TransformerConfig depth;                 // of the micro depth decoder
  std::optional<TransformerConfig> frame;  // of the frame drafter
  int64_t medusa_heads = 0;

  /// Frames that it can draft at a time: as many as one likes, those of the heads, or none but the rest of a frame.
  bool drafts_frames() const { return frame || medusa_heads > 0; }
};

/// Opens a drafter file and checks that it is one for this language model: the config, and every tensor's name and
/// shape. Throws Error(kUser) in one line.
struct DraftFile {
  WeightStore store;
  DraftConfig config;

  static DraftFile open(const std::filesystem::path& path, const LmConfig& lm);
  static DraftFile of(SafetensorsFile file, const LmConfig& lm);
};

/// The weights, shared by all songs. `h` is what the backbone says of a frame: its two rows side by side, [1, 2 D]
/// (without guidance the one row twice).
struct DraftModel {
  DraftConfig config;
  DType dtype = DType::kF32;

  /// The micro depth decoder: position 0 takes h, position j the code j - 1, and gives the guided logits of code j.
  Matrix depth_hidden;  // [d, 2 D]
  Table embeddings;     // [7 V, d]
  Transformer depth;
  std::array<Matrix, kCodebooks - 1> heads;  // [V, d] each

  /// The frame drafter: from h and the frame that was made of it to h of the next frame, h + output x.
  Matrix frame_input;  // [f, 3 D]: h, the sum of the frame's embeddings
  Transformer frame;
  Matrix frame_output;  // [2 D, f]

  /// h of the frame I + 1 further on, row by row: h + silu(W_I h).
  std::vector<Matrix> medusa;  // [D, D] each

  static std::vector<ExpectedTensor> expected_tensors(const DraftConfig& config);
  /// Rounded to `dtype`.
  static DraftModel load(Ops& ops, DraftFile file, DType dtype);

 private:
  std::optional<WeightStore> store_;  // where the embeddings stay
};

}  // namespace heartmula

// The weights of the HeartMuLa language model: backbone, depth decoder, embeddings and heads (lm.md B1, B4).
#pragma once

#include <array>
#include <span>
#include <vector>

#include "lm/transformer.h"

namespace heartmula {

/// Weights that decoding reads, by their number.
struct FrameWeights {
  int64_t backbone = 0;    // with the first head: once a frame
  int64_t depth_pass = 0;  // of the depth decoder with its projection
  int64_t head = 0;        // of one code

  static FrameWeights of(const LmConfig& config);
  /// Of a frame, plainly.
  int64_t plain() const { return backbone + (kCodebooks - 1) * (depth_pass + head); }
};

/// The weights, shared by all songs. The embedding tables stay in the mapped files until a row is touched.
struct HeartMula {
  LmConfig config;
  DType dtype = DType::kF32;
  Transformer backbone;
  Transformer decoder;
  Matrix projection;                         // [Dd, D]
  Matrix first_head;                         // codebook0_head [V, D]
  std::array<Matrix, kCodebooks - 1> heads;  // audio_head, transposed: [V, Dd] each
  Table text_embeddings;                     // [text vocabulary, D]
  Table audio_embeddings;                    // [8 V, D]
  Table unconditional_embedding;             // [1, D]
  Matrix muq_linear;                         // [D, muq_dim]; empty if the checkpoint has none
  Tensor muq_bias;                           // muq_linear of a style vector of zeros, [1, D]

  static std::vector<ExpectedTensor> expected_tensors(const LmConfig& config);
  /// WeightStore::require of these tensors, and of muq_linear.weight if it is there.
  static void require(const WeightStore& store, const LmConfig& config);
  /// Throws Error(kUser) if the store lacks a tensor or one has another shape. The store must outlive the model.
  static HeartMula load(Ops& ops, const WeightStore& store, const LmConfig& config, DType dtype);
};

}  // namespace heartmula

#include "lm/heartmula.h"

#include <algorithm>

#include "ops/weights.h"

namespace heartmula {
namespace {

constexpr const char* kMuqLinear = "muq_linear.weight";

}  // namespace

FrameWeights FrameWeights::of(const LmConfig& config) {
  const auto elements = [](const TransformerConfig& sizes) {
    int64_t all = 0;
    for (const ExpectedTensor& tensor : Transformer::expected_tensors(sizes, "")) all += tensor.elements();
    return all;
  };
  const int64_t width = config.backbone.embed_dim;
  const int64_t depth_width = config.decoder.embed_dim;
  return {.backbone = elements(config.backbone) + config.audio_vocab_size * width,
          .depth_pass = elements(config.decoder) + depth_width * width,
          .head = config.audio_vocab_size * depth_width};
}

std::vector<ExpectedTensor> HeartMula::expected_tensors(const LmConfig& c) {
  const int64_t width = c.backbone.embed_dim;
  const int64_t depth_width = c.decoder.embed_dim;
  std::vector<ExpectedTensor> expected = {
      {"text_embeddings.weight", {c.text_vocab_size, width}, true},
      {"audio_embeddings.weight", {kCodebooks * c.audio_vocab_size, width}, true},
      {"unconditional_text_embedding.weight", {1, width}, true},
      {"projection.weight", {depth_width, width}},
      {"codebook0_head.weight", {c.audio_vocab_size, width}},
      {"audio_head", {kCodebooks - 1, depth_width, c.audio_vocab_size}},
      {"muq_linear.bias", {width}},
  };
  for (ExpectedTensor& tensor : Transformer::expected_tensors(c.backbone, "backbone.")) expected.push_back(tensor);
  for (ExpectedTensor& tensor : Transformer::expected_tensors(c.decoder, "decoder.")) expected.push_back(tensor);
  return expected;
}

// Packed checkpoints had none of it when style vectors were always zeros, which do not train it either.
void HeartMula::require(const WeightStore& store, const LmConfig& config) {
  std::vector<ExpectedTensor> expected = expected_tensors(config);
  if (store.contains(kMuqLinear))
    expected.push_back({.name = kMuqLinear, .shape = {config.backbone.embed_dim, config.muq_dim}, .may_be_zero = true});
  store.require(expected, config.source);
}

HeartMula HeartMula::load(Ops& ops, const WeightStore& store, const LmConfig& config, DType dtype) {
  require(store, config);
  const WeightLoader load(ops, store, dtype);
  HeartMula model;
  model.config = config;
  model.dtype = dtype;
  model.backbone = Transformer::load(ops, store, config.backbone, "backbone.", dtype, config.backbone.max_seq_len);
  model.decoder = Transformer::load(ops, store, config.decoder, "decoder.", dtype, kCodebooks);
  model.projection = load.matrix({"projection.weight"});
  model.first_head = load.matrix({"codebook0_head.weight"});
  for (size_t i = 0; i < model.heads.size(); ++i) {
    model.heads[i] = load.transposed_slice("audio_head", static_cast<int64_t>(i));
  }
  model.text_embeddings = load.rows("text_embeddings.weight");
  model.audio_embeddings = ops.place(load.rows("audio_embeddings.weight"));
  model.unconditional_embedding = load.rows("unconditional_text_embedding.weight");
  if (store.contains(kMuqLinear)) model.muq_linear = load.matrix({kMuqLinear});
  model.muq_bias = load.vector("muq_linear.bias");
  return model;
}

}  // namespace heartmula

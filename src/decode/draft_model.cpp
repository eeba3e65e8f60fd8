#include "decode/draft_model.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_fields.h"
#include "ops/weights.h"

namespace heartmula {
namespace {

constexpr const char* kMetadata = "heartmula_drafter";
constexpr const char* kDepth = "depth.decoder.";
constexpr const char* kFrame = "frame.decoder.";
constexpr int64_t kMostHeads = 16;
constexpr int64_t kMostLookedBack = 4096;  // frames
constexpr int64_t kVersion = 1;

std::string medusa_name(int64_t head) {
  return fmt::format("medusa.{}.weight", head);
}

DraftConfig parse_config(const SafetensorsFile& file, const LmConfig& lm) {
  const std::string& name = file.name();
  const auto found = file.metadata().find(kMetadata);
  if (found == file.metadata().end()) {
    throw user_error("{}: is no drafter: its metadata have no {}", name, kMetadata);
  }
  const nlohmann::json json = parse_json_object(found->second, name);
  const JsonFields fields(json, name);
  fields.integer("version", kVersion, kVersion);
  DraftConfig config;
  config.source = name;
  config.embed_dim = fields.integer("embed_dim", 1, 1 << 16);
  config.audio_vocab_size = fields.integer("audio_vocab_size", 1, 1 << 20);
  if (config.embed_dim != lm.backbone.embed_dim || config.audio_vocab_size != lm.audio_vocab_size) {
    throw user_error("{}: is for another language model: of width {} and {} codes, not {} and {} as in {}", name,
                     config.embed_dim, config.audio_vocab_size, lm.backbone.embed_dim, lm.audio_vocab_size, lm.source);
  }
  if (!fields.has("depth")) throw user_error("{}: has no micro depth decoder (\"depth\"), which all drafts need", name);
  config.depth = read_transformer_config(fields.object("depth"), name, "depth");
  if (config.depth.max_seq_len < kCodebooks) {
    throw user_error("{}: depth.max_seq_len is {}, but a frame needs {}", name, config.depth.max_seq_len, kCodebooks);
  }
  if (fields.has("frame")) config.frame = read_transformer_config(fields.object("frame"), name, "frame");
  if (config.frame && config.frame->max_seq_len > kMostLookedBack) {
    throw user_error("{}: frame.max_seq_len is {}, more than {}", name, config.frame->max_seq_len, kMostLookedBack);
  }
  if (fields.has("medusa")) config.medusa_heads = fields.object("medusa").integer("heads", 1, kMostHeads);
  return config;
}

}  // namespace

DraftFile DraftFile::open(const std::filesystem::path& path, const LmConfig& lm) {
  return of(SafetensorsFile::open(path), lm);
}

DraftFile DraftFile::of(SafetensorsFile file, const LmConfig& lm) {
  DraftConfig config = parse_config(file, lm);
  DraftFile opened = {WeightStore::of(std::move(file)), std::move(config)};
  opened.store.require(DraftModel::expected_tensors(opened.config), opened.config.source);
  return opened;
}

std::vector<ExpectedTensor> DraftModel::expected_tensors(const DraftConfig& c) {
  const int64_t width = c.embed_dim;
  const int64_t depth = c.depth.embed_dim;
  std::vector<ExpectedTensor> expected = {{"depth.hidden.weight", {depth, 2 * width}},
                                          {"depth.embeddings.weight", {(kCodebooks - 1) * c.audio_vocab_size, depth}},
                                          {"depth.heads", {kCodebooks - 1, depth, c.audio_vocab_size}}};
  const auto add = [&](const TransformerConfig& sizes, const char* prefix) {
    for (ExpectedTensor& tensor : Transformer::expected_tensors(sizes, prefix)) expected.push_back(std::move(tensor));
  };
  add(c.depth, kDepth);
  if (c.frame) {
    expected.push_back({"frame.input.weight", {c.frame->embed_dim, 3 * width}});
    expected.push_back({"frame.output.weight", {2 * width, c.frame->embed_dim}});
    add(*c.frame, kFrame);
  }
  for (int64_t i = 0; i < c.medusa_heads; ++i) expected.push_back({medusa_name(i), {width, width}});
  return expected;
}

DraftModel DraftModel::load(Ops& ops, DraftFile file, DType dtype) {
  const WeightLoader load(ops, file.store, dtype);
  DraftModel model;
  model.config = file.config;
  const DraftConfig& config = model.config;
  model.dtype = dtype;
  model.depth_hidden = load.matrix({"depth.hidden.weight"});
  model.embeddings = ops.place(load.rows("depth.embeddings.weight"));
  model.depth = Transformer::load(ops, file.store, config.depth, kDepth, dtype, kCodebooks);
  for (size_t i = 0; i < model.heads.size(); ++i) {
    model.heads[i] = load.transposed_slice("depth.heads", static_cast<int64_t>(i));
  }
  if (config.frame) {
    model.frame_input = load.matrix({"frame.input.weight"});
    model.frame = Transformer::load(ops, file.store, *config.frame, kFrame, dtype, config.frame->max_seq_len);
    model.frame_output = load.matrix({"frame.output.weight"});
  }
  for (int64_t i = 0; i < config.medusa_heads; ++i) model.medusa.push_back(load.matrix({medusa_name(i)}));
  model.store_.emplace(std::move(file.store));
  return model;
}

}  // namespace heartmula

#include "codec/residual_vq.h"

namespace heartmula {
namespace {

constexpr int64_t kQuantizers = 8;
const std::string kVq = "flow_matching.vq_embed.";
const std::string kCondition = "flow_matching.cond_feature_emb.";

std::string codebook_name(int64_t quantizer) {
  return kVq + "layers." + std::to_string(quantizer) + "._codebook.embed";
}

}  // namespace

std::vector<ExpectedTensor> ResidualVq::expected_tensors(const CodecConfig& c, const WeightStore& store) {
  std::vector<ExpectedTensor> expected = {
      {kVq + "project_out.weight", {c.dim, c.codebook_dim}},
      {kVq + "project_out.bias", {c.dim}},
      {kCondition + "weight", {c.dim, c.dim}},
      {kCondition + "bias", {c.dim}},
  };
  for (int64_t q = 0; q < kQuantizers; ++q) {
    // One codec release stores a codebook with a leading axis of one head, another without.
    const std::string name = codebook_name(q);
    const bool flat = store.contains(name) && store.get(name).shape.size() == 2;
    expected.push_back({name, flat ? std::vector<int64_t>{c.codebook_size, c.codebook_dim}
                                   : std::vector<int64_t>{1, c.codebook_size, c.codebook_dim}});
  }
  return expected;
}

ResidualVq ResidualVq::load(Ops& ops, const WeightStore& store, const CodecConfig& config, DType dtype,
                            int64_t frames) {
  const WeightLoader load(ops, store, dtype);
  ResidualVq vq;
  vq.config_ = config;
  for (int64_t q = 0; q < kQuantizers; ++q) {
    const std::vector<float> codebook = load.values(codebook_name(q));
    vq.codebooks_.insert(vq.codebooks_.end(), codebook.begin(), codebook.end());
  }
  vq.project_out_ = load.matrix({kVq + "project_out.weight"});
  vq.project_out_bias_ = load.vector(kVq + "project_out.bias");
  vq.condition_ = load.matrix({kCondition + "weight"});
  vq.condition_bias_ = load.vector(kCondition + "bias");
  vq.sum_ = ops.allocate(dtype, frames, config.codebook_dim);
  vq.projected_ = ops.allocate(dtype, frames, config.dim);
  return vq;
}

std::vector<float> ResidualVq::codebook(Ops& ops, const WeightStore& store, int64_t quantizer) {
  return WeightLoader(ops, store, DType::kF32).values(codebook_name(quantizer));
}

void ResidualVq::forward(Ops& ops, View out, std::span<const int32_t> ids) const {
  std::vector<int32_t> rows(ids.begin(), ids.end());
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] >= 0) rows[i] += static_cast<int32_t>(static_cast<int64_t>(i % kQuantizers) * config_.codebook_size);
  }
  const Table table{ConstView(codebooks_.data(), DType::kF32, kQuantizers * config_.codebook_size, config_.codebook_dim,
                              config_.codebook_dim),
                    DType::kF32};
  const View sum = sum_.slice_rows(0, out.rows);
  const View projected = projected_.slice_rows(0, out.rows);
  ops.embed_sum(sum, table, rows, kQuantizers);
  ops.linear(projected, sum, project_out_, project_out_bias_);  // [codes, dim]
  ops.linear(out, projected, condition_, condition_bias_);      // [codes, dim]
}

}  // namespace heartmula

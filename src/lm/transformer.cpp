#include "lm/transformer.h"

#include <cmath>

#include "ops/rope.h"
#include "ops/weights.h"

namespace heartmula {

std::vector<ExpectedTensor> Transformer::expected_tensors(const TransformerConfig& c, const std::string& prefix) {
  std::vector<ExpectedTensor> expected;
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const std::string layer = prefix + "layers." + std::to_string(c.stored_layer(i)) + ".";
    expected.push_back({layer + "sa_norm.scale", {c.embed_dim}});
    expected.push_back({layer + "attn.q_proj.weight", {c.query_dim(), c.embed_dim}});
    expected.push_back({layer + "attn.k_proj.weight", {c.kv_dim(), c.embed_dim}});
    expected.push_back({layer + "attn.v_proj.weight", {c.kv_dim(), c.embed_dim}});
    expected.push_back({layer + "attn.output_proj.weight", {c.embed_dim, c.query_dim()}});
    expected.push_back({layer + "mlp_norm.scale", {c.embed_dim}});
    expected.push_back({layer + "mlp.w1.weight", {c.intermediate_dim, c.embed_dim}});
    expected.push_back({layer + "mlp.w2.weight", {c.embed_dim, c.intermediate_dim}});
    expected.push_back({layer + "mlp.w3.weight", {c.intermediate_dim, c.embed_dim}});
  }
  expected.push_back({prefix + "norm.scale", {c.embed_dim}});
  return expected;
}

Transformer Transformer::load(Ops& ops, const WeightStore& store, const TransformerConfig& config,
                              const std::string& prefix, DType dtype, int64_t positions) {
  const WeightLoader load(ops, store, dtype);
  Transformer transformer;
  transformer.config_ = config;
  transformer.dtype_ = dtype;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = prefix + "layers." + std::to_string(config.stored_layer(i)) + ".";
    Block block;
    block.attention_norm = load.vector(layer + "sa_norm.scale");
    block.qkv = load.matrix({layer + "attn.q_proj.weight", layer + "attn.k_proj.weight", layer + "attn.v_proj.weight"});
    block.output = load.matrix({layer + "attn.output_proj.weight"});
    block.mlp_norm = load.vector(layer + "mlp_norm.scale");
    block.gate_up = load.gate_up(layer + "mlp.w1.weight", layer + "mlp.w3.weight");
    block.down = load.matrix({layer + "mlp.w2.weight"});
    transformer.blocks_.push_back(std::move(block));
  }
  transformer.norm_ = load.vector(prefix + "norm.scale");
  const std::vector<float> frequencies = rope_frequencies(config.head_dim(), config.rope_base);
  transformer.rope_ = make_rope(ops, llama3_scaled_frequencies(frequencies, config.scale_factor), positions);
  return transformer;
}

TransformerCache Transformer::make_cache(Ops& ops, int64_t streams, int64_t capacity) const {
  return make_cache(ops, streams, capacity, nullptr, 0);
}

TransformerCache Transformer::make_cache(Ops& ops, int64_t streams, int64_t capacity, const KvTable* table,
                                         int64_t blocks) const {
  TransformerCache cache;
  const KvShape shape{streams, capacity, config_.num_kv_heads, config_.head_dim(), dtype_, blocks};
  for (int64_t i = 0; i < config_.num_layers; ++i) cache.layers.push_back(ops.make_kv_cache(shape, table));
  return cache;
}

TransformerBuffers Transformer::make_buffers(Ops& ops, int64_t max_rows) const {
  return {
      .normed = ops.allocate(dtype_, max_rows, config_.embed_dim),
      .qkv = ops.allocate(DType::kF32, max_rows, config_.query_dim() + 2 * config_.kv_dim()),
      .mixed = ops.allocate(dtype_, max_rows, config_.query_dim()),
      .hidden = ops.allocate(dtype_, max_rows, config_.intermediate_dim),
  };
}

void Transformer::forward(Ops& ops, View x, const Rows& rows, TransformerCache& cache,
                          const TransformerBuffers& buffers, int64_t layers, const LayerTap& tap) const {
  const int64_t count = x.rows;
  const View normed = buffers.normed.slice_rows(0, count);
  const View qkv = buffers.qkv.slice_rows(0, count);
  const View mixed = buffers.mixed.slice_rows(0, count);
  const View hidden = buffers.hidden.slice_rows(0, count);
  const View queries = qkv.slice_cols(0, config_.query_dim());
  const View keys = qkv.slice_cols(config_.query_dim(), config_.kv_dim());
  const View values = qkv.slice_cols(config_.query_dim() + config_.kv_dim(), config_.kv_dim());

  const float eps = config_.norm_eps;
  const size_t count_of_blocks = layers > 0 ? static_cast<size_t>(layers) : blocks_.size();
  for (size_t i = 0; i < count_of_blocks; ++i) {
    const Block& block = blocks_[i];
    KvCache& layer = *cache.layers[i];
    ops.linear(qkv, {x, block.attention_norm, eps, normed}, block.qkv);             // [rows, (H + 2 KV) hd]
    ops.append_and_attend(mixed, queries, keys, values, rope_, layer, rows);        // [rows, H hd]
    ops.linear_add(x, mixed, block.output);                                         // x += W mixed
    ops.linear_silu_gate(hidden, {x, block.mlp_norm, eps, normed}, block.gate_up);  // [rows, F]  silu(W1 x) * W3 x
    ops.linear_add(x, hidden, block.down);
    if (tap) tap(static_cast<int64_t>(i), x);
  }
}

void Transformer::normalize(Ops& ops, View out, ConstView x) const {
  ops.rms_norm(out, x, norm_, config_.norm_eps);
}

}  // namespace heartmula

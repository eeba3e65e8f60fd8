// A causal transformer of the Llama kind with grouped-query attention (lm.md B1 to B3).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lm/config.h"
#include "ops/ops.h"
#include "tensor/weight_store.h"

namespace heartmula {

/// Called with the output [rows, D] of each block: `heartmula verify` compares it with the reference.
using LayerTap = std::function<void(int64_t layer, ConstView x)>;

/// The keys and values of every layer.
struct TransformerCache {
  std::vector<std::unique_ptr<KvCache>> layers;
};

/// What a pass writes between its input and its output, made once for the largest pass.
struct TransformerBuffers {
  Tensor normed;  // [rows, D]           in the weights' dtype, as everything that feeds a product
  Tensor qkv;     // [rows, (H + 2 KV) hd]
  Tensor mixed;   // [rows, H hd]        weights' dtype
  Tensor hidden;  // [rows, F]           weights' dtype
};

class Transformer {
 public:
  /// The tensors that it needs, `prefix` for example "backbone.".
  static std::vector<ExpectedTensor> expected_tensors(const TransformerConfig& config, const std::string& prefix);
  /// `positions` is the longest sequence that will be asked for.
  static Transformer load(Ops& ops, const WeightStore& store, const TransformerConfig& config,
                          const std::string& prefix, DType dtype, int64_t positions);

  TransformerCache make_cache(Ops& ops, int64_t streams, int64_t capacity) const;
  /// One whose `blocks` blocks the streams share as the table says, which must outlive it.
  TransformerCache make_cache(Ops& ops, int64_t streams, int64_t capacity, const KvTable* table, int64_t blocks) const;
  TransformerBuffers make_buffers(Ops& ops, int64_t max_rows) const;

  /// x [rows, D], f32: in, the embeddings; out, the last block's output before the final norm.
  /// The rows' positions must follow what the cache holds of their streams.
  /// Only the first `layers` blocks, if it is not 0.
  void forward(Ops& ops, View x, const Rows& rows, TransformerCache& cache, const TransformerBuffers& buffers,
               int64_t layers = 0, const LayerTap& tap = {}) const;
  /// out = the final norm of x.
  void normalize(Ops& ops, View out, ConstView x) const;

  const TransformerConfig& config() const { return config_; }
  DType dtype() const { return dtype_; }

 private:
  struct Block {
    Tensor attention_norm;  // sa_norm.scale
    Matrix qkv;             // attn.q_proj, k_proj, v_proj, one below the other
    Matrix output;          // attn.output_proj
    Tensor mlp_norm;        // mlp_norm.scale
    Matrix gate_up;         // mlp.w1, mlp.w3
    Matrix down;            // mlp.w2
  };

  TransformerConfig config_;
  DType dtype_ = DType::kF32;
  std::vector<Block> blocks_;
  Tensor norm_;
  Rope rope_;
};

}  // namespace heartmula

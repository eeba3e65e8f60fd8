// The language model of lm.md in plain float64: no cache, every position again for every frame.
#pragma once

#include <numbers>
#include <numeric>

#include "lm/config.h"
#include "reference/random_checkpoint.h"

namespace heartmula::oracle {

/// cos and sin [positions, head_dim / 2] of Llama 3's stretched frequencies (lm.md B2).
struct RotaryTables {
  Array cos;
  Array sin;
};

inline RotaryTables rotary_tables(int64_t positions, int64_t head_dim, double base, double scale_factor) {
  RotaryTables tables{Array(positions, head_dim / 2), Array(positions, head_dim / 2)};
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > 8192) {
      frequency /= scale_factor;
    } else if (wavelength >= 2048) {
      const double s = (8192 / wavelength - 1) / 3;
      frequency = (1 - s) * frequency / scale_factor + s * frequency;
    }
    for (int64_t p = 0; p < positions; ++p) {
      tables.cos.at(p, i) = std::cos(static_cast<double>(p) * frequency);
      tables.sin.at(p, i) = std::sin(static_cast<double>(p) * frequency);
    }
  }
  return tables;
}

inline Array scaled(Array x, const Array& gain) {
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) x.at(r, c) *= gain.at(0, c);
  }
  return x;
}

inline Array sum(Array x, const Array& y) {
  for (size_t i = 0; i < x.values.size(); ++i) x.values[i] += y.values[i];
  return x;
}

/// h = x + attn(sa_norm x), out = h + mlp(mlp_norm h), layer by layer, then the final norm: rows are positions 0, 1,
/// ...
inline Array transformer(const RandomCheckpoint& weights, const TransformerConfig& c, const std::string& prefix,
                         Array x) {
  const int64_t head_dim = c.embed_dim / c.num_heads;
  const RotaryTables rope = rotary_tables(x.rows, head_dim, c.rope_base, c.scale_factor);
  std::vector<int32_t> positions(static_cast<size_t>(x.rows));
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<int64_t> causal(static_cast<size_t>(x.rows));
  std::iota(causal.begin(), causal.end(), 1);
  for (int64_t i = 0; i < c.num_layers; ++i) {
    const std::string layer = prefix + "layers." + std::to_string(i) + ".";
    const auto weight = [&](const char* name) { return weights.array(layer + name + ".weight"); };
    const Array normed = scaled(rms_normalized(x, c.norm_eps), weights.row(layer + "sa_norm.scale"));
    const Array q = rotated(product(normed, weight("attn.q_proj")), rope.cos, rope.sin, positions);
    const Array k = rotated(product(normed, weight("attn.k_proj")), rope.cos, rope.sin, positions);
    const Array v = product(normed, weight("attn.v_proj"));
    const Array mixed = attention(q, k, v, c.num_heads, c.num_kv_heads, causal);
    x = sum(x, product(mixed, weight("attn.output_proj")));
    const Array between = scaled(rms_normalized(x, c.norm_eps), weights.row(layer + "mlp_norm.scale"));
    Array hidden = product(between, weight("mlp.w1"));
    const Array up = product(between, weight("mlp.w3"));
    for (size_t j = 0; j < hidden.values.size(); ++j) hidden.values[j] = silu(hidden.values[j]) * up.values[j];
    x = sum(x, product(hidden, weight("mlp.w2")));
  }
  return scaled(rms_normalized(x, c.norm_eps), weights.row(prefix + "norm.scale"));
}

/// One row of guidance, conditional or unconditional.
class LanguageModel {
 public:
  LanguageModel(const RandomCheckpoint& weights, const LmConfig& config) : weights_(weights), config_(config) {}

  void prefill(const std::vector<int32_t>& ids, int64_t reference_index, bool conditional,
               const std::vector<float>& muq_embed = {}) {
    for (size_t i = 0; i < ids.size(); ++i) {
      if (!conditional) {
        add(weights_.array("unconditional_text_embedding.weight"), 0);
      } else if (static_cast<int64_t>(i) == reference_index) {
        add(reference(muq_embed), 0);
      } else {
        add(weights_.array("text_embeddings.weight"), ids[i]);
      }
    }
  }

  void feed(const Frame& frame) {
    const Array table = weights_.array("audio_embeddings.weight");
    inputs_.emplace_back(static_cast<size_t>(table.cols));
    for (int64_t q = 0; q < kCodebooks; ++q) {
      const int64_t entry = frame[static_cast<size_t>(q)] + q * config_.audio_vocab_size;
      for (int64_t c = 0; c < table.cols; ++c) inputs_.back()[static_cast<size_t>(c)] += table.at(entry, c);
    }
  }

  /// Of all codebooks of the next frame, when it is `frame`: [8][V].
  std::vector<std::vector<double>> logits(const Frame& frame) const {
    Array x(static_cast<int64_t>(inputs_.size()), config_.backbone.embed_dim);
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = 0; c < x.cols; ++c) x.at(r, c) = inputs_[static_cast<size_t>(r)][static_cast<size_t>(c)];
    }
    const Array last = row_of(transformer(weights_, config_.backbone, "backbone.", x), x.rows - 1);
    std::vector<std::vector<double>> logits = {product(last, weights_.array("codebook0_head.weight")).values};

    const Array table = weights_.array("audio_embeddings.weight");
    const Array heads = weights_.array("audio_head");
    Array depth = last;  // before the projection
    for (int64_t q = 1; q < kCodebooks; ++q) {
      const Array entry = row_of(table, frame[static_cast<size_t>(q - 1)] + (q - 1) * config_.audio_vocab_size);
      depth.values.insert(depth.values.end(), entry.values.begin(), entry.values.end());
      ++depth.rows;
      const Array projected = product(depth, weights_.array("projection.weight"));
      const Array hidden = row_of(transformer(weights_, config_.decoder, "decoder.", projected), q);
      std::vector<double> of_codebook(static_cast<size_t>(config_.audio_vocab_size));
      for (int64_t v = 0; v < config_.audio_vocab_size; ++v) {
        for (int64_t d = 0; d < hidden.cols; ++d) {
          of_codebook[static_cast<size_t>(v)] +=
              hidden.at(0, d) * heads.at(q - 1, d * config_.audio_vocab_size + v);  // [7, Dd, V]
        }
      }
      logits.push_back(of_codebook);
    }
    return logits;
  }

 private:
  static Array row_of(const Array& x, int64_t row) {
    Array out(1, x.cols);
    for (int64_t c = 0; c < x.cols; ++c) out.at(0, c) = x.at(row, c);
    return out;
  }
  /// W muq + b
  Array reference(const std::vector<float>& muq_embed) const {
    const Array bias = weights_.row("muq_linear.bias");
    if (muq_embed.empty()) return bias;
    Array muq(1, static_cast<int64_t>(muq_embed.size()));
    std::copy(muq_embed.begin(), muq_embed.end(), muq.values.begin());
    return sum(product(muq, weights_.array("muq_linear.weight")), bias);
  }
  void add(const Array& table, int64_t row) { inputs_.push_back(row_of(table, row).values); }

  const RandomCheckpoint& weights_;
  const LmConfig& config_;
  std::vector<std::vector<double>> inputs_;  // of each position
};

}  // namespace heartmula::oracle

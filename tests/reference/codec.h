// HeartCodec of codec.md in plain float64, from codes to the samples of one window.
#pragma once

#include <numbers>
#include <numeric>

#include "codec/config.h"
#include "reference/random_checkpoint.h"

namespace heartmula::oracle {

// ---- helpers

/// x W^T + bias
inline Array linear(const Array& x, const Array& weight, const Array& bias) {
  Array out = product(x, weight);
  for (int64_t r = 0; r < out.rows; ++r) {
    for (int64_t c = 0; c < out.cols; ++c) out.at(r, c) += bias.at(0, c);
  }
  return out;
}

inline Array linear(const RandomCheckpoint& weights, const Array& x, const std::string& name) {
  return linear(x, weights.array(name + "weight"), weights.row(name + "bias"));
}

inline Array rows_of(const Array& x, int64_t first, int64_t count) {
  Array out(count, x.cols);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) out.at(r, c) = x.at(first + r, c);
  }
  return out;
}

inline Array joined(const Array& left, const Array& right) {
  Array out(left.rows, left.cols + right.cols);
  for (int64_t r = 0; r < left.rows; ++r) {
    for (int64_t c = 0; c < left.cols; ++c) out.at(r, c) = left.at(r, c);
    for (int64_t c = 0; c < right.cols; ++c) out.at(r, left.cols + c) = right.at(r, c);
  }
  return out;
}

/// The sample x[time, channel] of a signal that is zero before its beginning and after its end.
inline double sample(const Array& x, int64_t time, int64_t channel) {
  return time < 0 || time >= x.rows ? 0.0 : x.at(time, channel);
}

// ---- residual VQ and conditioning (A4)

/// [codes, dim] of ids [codes * 8], -1 for a dropped code.
inline Array conditioning(const RandomCheckpoint& weights, const CodecConfig& c, const std::vector<int32_t>& ids) {
  const std::string vq = "flow_matching.vq_embed.";
  Array sum(static_cast<int64_t>(ids.size()) / 8, c.codebook_dim);
  for (int64_t q = 0; q < 8; ++q) {
    const Array stored = weights.row(vq + "layers." + std::to_string(q) + "._codebook.embed");
    for (int64_t t = 0; t < sum.rows; ++t) {
      const int64_t id = ids[static_cast<size_t>(8 * t + q)];
      if (id == -1) continue;
      for (int64_t d = 0; d < sum.cols; ++d) sum.at(t, d) += stored.at(0, id * sum.cols + d);
    }
  }
  return linear(weights, linear(weights, sum, vq + "project_out."), "flow_matching.cond_feature_emb.");
}

// ---- velocity transformer (A6)

/// Linear(3^-0.5 * Conv1d(x)), a frame of zeros before and after.
inline Array project_layer(const RandomCheckpoint& weights, const Array& x, const std::string& name) {
  const Array kernel = weights.array(name + "ffn_1.weight");  // [out, in * 3]
  const Array bias = weights.row(name + "ffn_1.bias");
  Array between(x.rows, kernel.rows);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t n = 0; n < kernel.rows; ++n) {
      double value = bias.at(0, n);
      for (int64_t c = 0; c < x.cols; ++c) {
        for (int64_t j = 0; j < 3; ++j) value += kernel.at(n, 3 * c + j) * sample(x, t + j - 1, c);
      }
      between.at(t, n) = value / std::sqrt(3.0);
    }
  }
  return linear(weights, between, name + "ffn_2.");
}

/// cos, then sin, of 1000 t 10000^(-i / 256): angles in f32, each operation rounded.
inline Array time_embedding(float t) {
  Array features(1, 512);
  for (int i = 0; i < 256; ++i) {
    const float exponent = static_cast<float>(-std::log(10000.0)) * static_cast<float>(i) / 256.0f;
    const auto frequency = static_cast<float>(std::exp(double{exponent}));
    const float scaled_time = t * frequency;
    const float angle = scaled_time * 1000.0f;
    features.at(0, i) = std::cos(double{angle});
    features.at(0, i + 256) = std::sin(double{angle});
  }
  return features;
}

inline Array silu(Array x) {
  for (double& value : x.values) value = silu(value);
  return x;
}

/// x * (1 + scale) + shift
inline Array modulated(Array x, const Array& table, int64_t shift_row, int64_t scale_row) {
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) {
      x.at(r, c) = x.at(r, c) * (1 + table.at(scale_row, c)) + table.at(shift_row, c);
    }
  }
  return x;
}

inline Array weighted(Array x, const Array& gain) {
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) x.at(r, c) *= gain.at(0, c);
  }
  return x;
}

inline Array plus_scaled(Array x, const Array& gain, const Array& y) {
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) x.at(r, c) += gain.at(0, c) * y.at(r, c);
  }
  return x;
}

inline Array stack(const RandomCheckpoint& weights, Array x, const std::string& suffix, int64_t layers, int64_t heads,
                   float t, float interval = 0) {
  const std::string root = "flow_matching.estimator.";
  const std::string adaln = root + "adaln_single" + suffix + ".";
  Array embedding = linear(weights, time_embedding(t), adaln + "emb.timestep_embedder.linear_1.");
  embedding = linear(weights, silu(embedding), adaln + "emb.timestep_embedder.linear_2.");
  if (weights.store().contains(adaln + "interval_embedder.linear_1.weight")) {  // a student's
    const Array between = linear(weights, time_embedding(interval), adaln + "interval_embedder.linear_1.");
    const Array more = linear(weights, silu(between), adaln + "interval_embedder.linear_2.");
    for (size_t i = 0; i < embedding.values.size(); ++i) embedding.values[i] += more.values[i];
  }
  const Array modulation = linear(weights, silu(embedding), adaln + "linear.");  // [1, 6 D]

  const int64_t head_dim = x.cols / heads;
  Array cos(x.rows, head_dim / 2);
  Array sin(x.rows, head_dim / 2);
  for (int64_t p = 0; p < x.rows; ++p) {
    for (int64_t i = 0; i < head_dim / 2; ++i) {
      const double angle =
          static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      cos.at(p, i) = std::cos(angle);
      sin.at(p, i) = std::sin(angle);
    }
  }
  std::vector<int32_t> positions(static_cast<size_t>(x.rows));
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<int64_t> all(static_cast<size_t>(x.rows), x.rows);

  for (int64_t i = 0; i < layers; ++i) {
    const std::string block = root + "transformer_blocks" + suffix + "." + std::to_string(i) + ".";
    const auto weight = [&](const char* name) { return weights.array(block + name + ".weight"); };
    Array table = weights.array(block + "scale_shift_table");
    for (size_t j = 0; j < table.values.size(); ++j) table.values[j] += modulation.values[j];
    const Array gain_1 = rows_of(table, 2, 1);
    const Array gain_2 = rows_of(table, 5, 1);

    Array a = modulated(weighted(rms_normalized(x, 1e-6), weights.row(block + "attn_norm.weight")), table, 0, 1);
    const Array q = rotated(product(a, weight("attn.q_proj")), cos, sin, positions);
    const Array k = rotated(product(a, weight("attn.k_proj")), cos, sin, positions);
    const Array mixed = attention(q, k, product(a, weight("attn.v_proj")), heads, heads, all);
    x = plus_scaled(x, gain_1, product(mixed, weight("attn.o_proj")));

    a = modulated(weighted(rms_normalized(x, 1e-6), weights.row(block + "mlp_norm.weight")), table, 3, 4);
    Array hidden = silu(product(a, weight("mlp.gate")));
    const Array up = product(a, weight("mlp.up"));
    for (size_t j = 0; j < hidden.values.size(); ++j) hidden.values[j] *= up.values[j];
    x = plus_scaled(x, gain_2, product(hidden, weight("mlp.down")));
  }

  Array table = weights.array(root + "scale_shift_table" + suffix);  // shift, scale
  for (int64_t r = 0; r < 2; ++r) {
    for (int64_t c = 0; c < table.cols; ++c) table.at(r, c) += embedding.at(0, c);
  }
  return modulated(layer_normalized(x, 1e-6), table, 0, 1);
}

/// [frames, out_channels] of h [frames, in_channels].
inline Array velocity(const RandomCheckpoint& weights, const CodecConfig& c, const Array& h, float t,
                      float interval = 0) {
  const std::string root = "flow_matching.estimator.";
  const Array first =
      stack(weights, project_layer(weights, h, root + "proj_in."), "", c.num_layers, c.num_heads, t, interval);
  const Array between = project_layer(weights, joined(h, first), root + "connection_proj.");
  return project_layer(weights, stack(weights, between, "_2", c.num_layers_2, c.num_heads, t, interval),
                       root + "proj_out.");
}

// ---- Euler steps (A5)

/// Latents [frames, C] from noise [frames, C], conditioning [frames / 2, dim] and the latents that the window begins
/// with.
inline Array flow(const RandomCheckpoint& weights, const CodecConfig& c, const Array& noise, const Array& codes,
                  const Array& context, int64_t steps, double guidance) {
  Array mu(noise.rows, c.dim);
  for (int64_t r = 0; r < mu.rows; ++r) {
    for (int64_t d = 0; d < c.dim; ++d) mu.at(r, d) = codes.at(r / 2, d);
  }
  const Array nothing(noise.rows, c.dim);
  Array known(noise.rows, noise.cols);
  std::copy(context.values.begin(), context.values.end(), known.values.begin());
  Array x = noise;
  for (int64_t step = 0; step < steps; ++step) {
    const double t = static_cast<double>(step) / static_cast<double>(steps);
    for (int64_t r = 0; r < context.rows; ++r) {
      for (int64_t i = 0; i < x.cols; ++i) {
        x.at(r, i) = (1 - (1 - 1e-6) * t) * noise.at(r, i) + t * known.at(r, i);
      }
    }
    const Array v = velocity(weights, c, joined(joined(x, known), mu), static_cast<float>(t));
    Array u = v;
    if (guidance > 1) u = velocity(weights, c, joined(joined(x, known), nothing), static_cast<float>(t));
    for (size_t i = 0; i < x.values.size(); ++i) {
      x.values[i] += (u.values[i] + guidance * (v.values[i] - u.values[i])) / static_cast<double>(steps);
    }
  }
  std::copy(context.values.begin(), context.values.end(), x.values.begin());
  return x;
}

// ---- wave decoder (A7)

/// g v / |v|, [first, second * taps], and the bias.
struct WeightNormed {
  Array weight;
  Array bias;
  int64_t taps = 0;
};

inline WeightNormed weight_normed(const RandomCheckpoint& weights, const std::string& name, int64_t taps) {
  WeightNormed conv{weights.array(name + "parametrizations.weight.original1"), weights.row(name + "bias"), taps};
  const Array magnitude = weights.array(name + "parametrizations.weight.original0");
  for (int64_t r = 0; r < conv.weight.rows; ++r) {
    double squares = 0;
    for (int64_t i = 0; i < conv.weight.cols; ++i) squares += conv.weight.at(r, i) * conv.weight.at(r, i);
    for (int64_t i = 0; i < conv.weight.cols; ++i) conv.weight.at(r, i) *= magnitude.at(r, 0) / std::sqrt(squares);
  }
  return conv;
}

/// y[t] = bias + sum of W[:, c, j] x[t + j * dilation - before]
inline Array convolved(const Array& x, const WeightNormed& conv, int64_t dilation, int64_t before) {
  Array out(x.rows, conv.weight.rows);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t n = 0; n < out.cols; ++n) {
      double value = conv.bias.at(0, n);
      for (int64_t c = 0; c < x.cols; ++c) {
        for (int64_t j = 0; j < conv.taps; ++j) {
          value += conv.weight.at(n, c * conv.taps + j) * sample(x, t + j * dilation - before, c);
        }
      }
      out.at(t, n) = value;
    }
  }
  return out;
}

inline Array causal(const Array& x, const WeightNormed& conv, int64_t dilation = 1) {
  return convolved(x, conv, dilation, (conv.taps - 1) * dilation);
}

/// y[s j + r] = W[:, :, r]^T x[j] + W[:, :, r + s]^T x[j - 1] + bias, W [in, out * 2 s]
inline Array up_sampled(const Array& x, const WeightNormed& conv) {
  const int64_t factor = conv.taps / 2;
  Array out(x.rows * factor, conv.bias.cols);
  for (int64_t t = 0; t < out.rows; ++t) {
    const int64_t j = t / factor;
    const int64_t r = t % factor;
    for (int64_t n = 0; n < out.cols; ++n) {
      double value = conv.bias.at(0, n);
      for (int64_t c = 0; c < x.cols; ++c) {
        value += conv.weight.at(c, n * conv.taps + r) * sample(x, j, c);
        value += conv.weight.at(c, n * conv.taps + r + factor) * sample(x, j - 1, c);
      }
      out.at(t, n) = value;
    }
  }
  return out;
}

inline Array prelu(Array x, const RandomCheckpoint& weights, const std::string& name) {
  const double slope = weights.array(name + "weight").at(0, 0);
  for (double& value : x.values) value *= value < 0 ? slope : 1;
  return x;
}

/// Samples of one channel's latents [frames, latent_dim].
inline std::vector<double> wave(const RandomCheckpoint& weights, const CodecConfig& c, Array x) {
  const std::string root = "scalar_model.decoder.";
  for (double& value : x.values) value = std::nearbyint(9 * value) / 9;
  x = convolved(x, weight_normed(weights, root + "0.", c.delay_kernel), 1, c.delay_kernel / 2);
  const size_t stages = c.upsample_factors.size();
  for (size_t i = 0; i < stages; ++i) {
    const std::string stage = root + std::to_string(i + 1) + ".";
    x = up_sampled(x, weight_normed(weights, stage + "up_conv.layer.", 2 * c.upsample_factors[i]));
    for (int unit = 0; unit < 5; ++unit) {
      const std::string name = stage + "convs." + std::to_string(unit) + ".";
      Array y = causal(x, weight_normed(weights, name + "conv1.", c.res_kernel), 1 + 2 * unit);
      y = prelu(y, weights, name + "activation1.");
      y = prelu(causal(y, weight_normed(weights, name + "conv2.", 1)), weights, name + "activation2.");
      for (size_t j = 0; j < x.values.size(); ++j) x.values[j] += y.values[j];
    }
  }
  Array repeated(x.rows * c.num_samples, x.cols);
  for (int64_t t = 0; t < repeated.rows; ++t) {
    for (int64_t n = 0; n < x.cols; ++n) repeated.at(t, n) = x.at(t / c.num_samples, n);
  }
  const std::string plain = root + std::to_string(stages + 1) + ".";
  const WeightNormed conv{weights.array(plain + "conv.weight"), weights.row(plain + "conv.bias"), c.kernel};
  x = prelu(causal(repeated, conv), weights, plain + "activation.");
  return causal(x, weight_normed(weights, root + std::to_string(stages + 2) + ".", c.kernel)).values;
}

}  // namespace heartmula::oracle

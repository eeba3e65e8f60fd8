// Rotary position embeddings of Llama 3 (torchtune's Llama3ScaledRoPE; lm.md B2) and the plain ones (Su et al., 2021).
#pragma once

#include <vector>

#include "ops/ops.h"

namespace heartmula {

/// base^(-2i / head_dim), i < head_dim / 2, each step rounded to f32.
std::vector<float> rope_frequencies(int64_t head_dim, double base);

/// The frequencies stretched for long contexts: by `scale_factor` beyond a wavelength of 8192 positions, not at all
/// below 2048, blended between.
std::vector<float> llama3_scaled_frequencies(std::vector<float> frequencies, double scale_factor);

/// cos and sin of position * frequency; product, cosine and sine each rounded to f32 (at position 8191 tables from
/// float64 differ by 1.8e-4).
Rope make_rope(Ops& ops, const std::vector<float>& frequencies, int64_t positions);

}  // namespace heartmula

// Guesses that are verified together, so that more of them stand than one by one (Sun et al., arXiv:2403.10444;
// decoding.md 2.3). What comes of it has the model's distribution, whatever the guesses were drawn from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sampling/code_chances.h"

namespace heartmula {

/// One of a block of guesses, in their order.
struct BlockGuess {
  int32_t code = 0;
  const CodeChances& drafted;  // what it was drawn from
  const CodeChances& model;    // what the model draws from behind the guesses before it
};

/// For i = 0 to the number n of guesses, with p of the model and q of the draft:
struct BlockChances {
  /// w_0 = 1, w_i = min(w_(i-1) p(x_i) / q(x_i), 1).
  std::vector<double> weights;
  /// That the first i guesses stand if no more do: h_0 = 1, h_n = w_n, and between them h_i = s / (s + 1 - w_i) with
  /// s = sum over codes of max(w_i p - q, 0) at guess i + 1.
  std::vector<double> stand;
};

BlockChances block_chances(std::span<const BlockGuess> guesses);

/// How many guesses stand: the largest i with uniforms[i - 1] <= stand[i], or none.
size_t standing_guesses(const BlockChances& chances, std::span<const double> uniforms);

/// What the code behind the guesses that stand is drawn from: max(weight p - q, 0), or p if nothing is left of it.
CodeChances residual_of(const CodeChances& model, const CodeChances& drafted, double weight);

}  // namespace heartmula

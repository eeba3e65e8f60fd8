#include "sampling/block_verification.h"

#include <algorithm>

namespace heartmula {
namespace {

// call(code, weight p - q) for each code of the model's at which that is above 0.
template <typename Call>
void for_residual(const CodeChances& model, const CodeChances& drafted, double weight, const Call& call) {
  size_t d = 0;
  for (size_t i = 0; i < model.codes.size(); ++i) {
    while (d < drafted.codes.size() && drafted.codes[d] < model.codes[i]) ++d;
    const bool is_drafted = d < drafted.codes.size() && drafted.codes[d] == model.codes[i];
    const double left = weight * model.chances[i] - (is_drafted ? drafted.chances[d] : 0);
    if (left > 0) call(model.codes[i], left);
  }
}

}  // namespace

BlockChances block_chances(std::span<const BlockGuess> guesses) {
  BlockChances chances = {.weights = {1}, .stand = {1}};
  for (size_t i = 0; i < guesses.size(); ++i) {
    const BlockGuess& guess = guesses[i];
    const double drafted = guess.drafted.of(guess.code);
    const double weight = drafted > 0 ? chances.weights[i] * guess.model.of(guess.code) / drafted : 0;
    chances.weights.push_back(std::min(weight, 1.0));
  }
  for (size_t i = 1; i < guesses.size(); ++i) {
    double left = 0;
    for_residual(guesses[i].model, guesses[i].drafted, chances.weights[i], [&](int32_t, double x) { left += x; });
    const double all = left + 1 - chances.weights[i];
    chances.stand.push_back(all > 0 ? left / all : 1);  // model and draft say the same: the next weight is 1, too
  }
  if (!guesses.empty()) chances.stand.push_back(chances.weights.back());
  return chances;
}

size_t standing_guesses(const BlockChances& chances, std::span<const double> uniforms) {
  size_t stand = chances.stand.size() - 1;
  while (stand > 0 && uniforms[stand - 1] > chances.stand[stand]) --stand;
  return stand;
}

CodeChances residual_of(const CodeChances& model, const CodeChances& drafted, double weight) {
  CodeChances residual;
  double total = 0;
  for_residual(model, drafted, weight, [&](int32_t code, double left) {
    residual.codes.push_back(code);
    residual.chances.push_back(left);
    total += left;
  });
  if (residual.codes.empty()) return model;
  for (double& chance : residual.chances) chance /= total;
  return residual;
}

}  // namespace heartmula

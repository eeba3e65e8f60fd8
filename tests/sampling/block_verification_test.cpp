// Whatever guesses are drawn from, what comes of them has the model's distribution: summed up over all that can happen.
#include "sampling/block_verification.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <random>
#include <vector>

namespace heartmula {
namespace {

constexpr int32_t kTokens = 3;
constexpr size_t kSteps = 3;
using Text = std::vector<int32_t>;  // of tokens

/// A law of texts: chances of the next token behind each beginning.
class Law {
 public:
  /// Sharp laws are nearly sure; `missing` is the chance of a token that a beginning never has.
  Law(std::mt19937& random, double sharpness, double missing) {
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    for (const Text& beginning : beginnings()) {
      std::array<double, kTokens> next = {};
      double total = 0;
      for (double& chance : next) {
        chance = uniform(random) < missing ? 0 : std::exp(sharpness * normal(random));
        total += chance;
      }
      if (total == 0) next[1] = total = 1;
      for (double& chance : next) chance /= total;
      next_[beginning] = next;
    }
  }

  double next(const Text& beginning, int32_t token) const { return next_.at(beginning)[static_cast<size_t>(token)]; }
  CodeChances chances(const Text& beginning) const {
    CodeChances chances;
    for (int32_t token = 0; token < kTokens; ++token) {
      if (next(beginning, token) == 0) continue;
      chances.codes.push_back(token);
      chances.chances.push_back(next(beginning, token));
    }
    return chances;
  }
  double of(const Text& text) const { return behind({}, text); }
  /// Of the rest of `text` behind a beginning of it.
  double behind(Text beginning, const Text& text) const {
    double chance = 1;
    while (beginning.size() < text.size()) {
      chance *= next(beginning, text[beginning.size()]);
      beginning.push_back(text[beginning.size()]);
    }
    return chance;
  }

  static std::vector<Text> texts(size_t length) {
    std::vector<Text> all = {{}};
    for (size_t i = 0; i < length; ++i) {
      std::vector<Text> longer;
      for (const Text& text : all) {
        for (int32_t token = 0; token < kTokens; ++token) {
          longer.push_back(text);
          longer.back().push_back(token);
        }
      }
      all = longer;
    }
    return all;
  }

 private:
  static std::vector<Text> beginnings() {
    std::vector<Text> all;
    for (size_t length = 0; length < kSteps; ++length) {
      for (const Text& text : texts(length)) all.push_back(text);
    }
    return all;
  }

  std::map<Text, std::array<double, kTokens>> next_;
};

/// The law of what comes of guesses of `length` tokens, of which those that stand are followed by one of the residual
/// and then by the model's own.
std::map<Text, double> verified_law(const Law& model, const Law& draft, size_t length) {
  std::map<Text, double> law;
  for (const Text& guess : Law::texts(length)) {
    if (draft.of(guess) == 0) continue;  // nobody guesses this
    std::vector<CodeChances> drafted;
    std::vector<CodeChances> said;
    for (size_t i = 0; i < length; ++i) {
      const Text beginning(guess.begin(), guess.begin() + static_cast<std::ptrdiff_t>(i));
      drafted.push_back(draft.chances(beginning));
      said.push_back(model.chances(beginning));
    }
    std::vector<BlockGuess> block;
    for (size_t i = 0; i < length; ++i) {
      block.push_back({.code = guess[i], .drafted = drafted[i], .model = said[i]});
    }
    const BlockChances chances = block_chances(block);
    double no_more_stand = draft.of(guess);
    for (size_t stand = length + 1; stand-- > 0;) {
      const double so_many = no_more_stand * chances.stand[stand];
      no_more_stand *= 1 - chances.stand[stand];
      Text begin(guess.begin(), guess.begin() + static_cast<std::ptrdiff_t>(stand));
      if (stand == length) {
        for (const Text& text : Law::texts(kSteps)) {
          if (std::equal(begin.begin(), begin.end(), text.begin())) law[text] += so_many * model.behind(begin, text);
        }
        continue;
      }
      const CodeChances residual = residual_of(said[stand], drafted[stand], chances.weights[stand]);
      for (size_t i = 0; i < residual.codes.size(); ++i) {
        Text corrected = begin;
        corrected.push_back(residual.codes[i]);
        for (const Text& text : Law::texts(kSteps)) {
          if (!std::equal(corrected.begin(), corrected.end(), text.begin())) continue;
          law[text] += so_many * residual.chances[i] * model.behind(corrected, text);
        }
      }
    }
  }
  return law;
}

TEST(BlockVerification, gives_the_models_law_whatever_is_guessed) {
  std::mt19937 random(7);
  for (int instance = 0; instance < 200; ++instance) {
    const double missing = instance % 3 == 0 ? 0.3 : 0;
    const Law model(random, 0.2 + instance % 7, missing);
    const Law draft(random, 0.2 + instance % 5, instance % 2 == 0 ? missing : 0);
    for (size_t length = 0; length <= kSteps; ++length) {
      std::map<Text, double> law = verified_law(model, draft, length);
      for (const Text& text : Law::texts(kSteps)) EXPECT_NEAR(law[text], model.of(text), 1e-12) << instance;
    }
  }
}

TEST(BlockVerification, all_guesses_of_the_model_itself_stand) {
  std::mt19937 random(8);
  const Law model(random, 1, 0.2);
  for (const Text& guess : Law::texts(kSteps)) {
    if (model.of(guess) == 0) continue;
    std::vector<CodeChances> said;
    for (size_t i = 0; i < kSteps; ++i) {
      said.push_back(model.chances({guess.begin(), guess.begin() + static_cast<std::ptrdiff_t>(i)}));
    }
    const BlockChances chances = block_chances(std::array<BlockGuess, kSteps>{
        BlockGuess{guess[0], said[0], said[0]}, {guess[1], said[1], said[1]}, {guess[2], said[2], said[2]}});
    EXPECT_EQ(chances.weights, (std::vector<double>(4, 1.0)));
    EXPECT_EQ(chances.stand.back(), 1);
  }
}

/// One by one, a guess stands with chance min(1, p / q) if those before it do: that is what 2.3 compares with.
double expected_one_by_one(const Law& model, const Law& draft) {
  double expected = 0;
  for (const Text& guess : Law::texts(kSteps)) {
    double stands = draft.of(guess);
    for (size_t i = 0; i < kSteps && stands > 0; ++i) {
      const Text beginning(guess.begin(), guess.begin() + static_cast<std::ptrdiff_t>(i));
      stands *= std::min(1.0, model.next(beginning, guess[i]) / draft.next(beginning, guess[i]));
      expected += stands;
    }
  }
  return expected;
}

double expected_as_a_block(const Law& model, const Law& draft) {
  double expected = 0;
  for (const Text& guess : Law::texts(kSteps)) {
    if (draft.of(guess) == 0) continue;
    std::vector<CodeChances> drafted;
    std::vector<CodeChances> said;
    for (size_t i = 0; i < kSteps; ++i) {
      const Text beginning(guess.begin(), guess.begin() + static_cast<std::ptrdiff_t>(i));
      drafted.push_back(draft.chances(beginning));
      said.push_back(model.chances(beginning));
    }
    const BlockChances chances = block_chances(std::array<BlockGuess, kSteps>{
        BlockGuess{guess[0], drafted[0], said[0]}, {guess[1], drafted[1], said[1]}, {guess[2], drafted[2], said[2]}});
    double no_more_stand = draft.of(guess);
    for (size_t stand = kSteps; stand > 0; --stand) {
      expected += no_more_stand * chances.stand[stand] * static_cast<double>(stand);
      no_more_stand *= 1 - chances.stand[stand];
    }
  }
  return expected;
}

TEST(BlockVerification, more_guesses_stand_than_one_by_one) {
  std::mt19937 random(9);
  double gained = 0;
  for (int instance = 0; instance < 100; ++instance) {
    const Law model(random, 1, 0);
    const Law draft(random, 1, 0);
    const double one_by_one = expected_one_by_one(model, draft);
    const double block = expected_as_a_block(model, draft);
    EXPECT_GE(block, one_by_one - 1e-12);
    gained += block - one_by_one;
  }
  EXPECT_GT(gained, 1);
}

TEST(BlockVerification, the_longest_beginning_that_may_stand_does) {
  const BlockChances chances = {.weights = {1, 0.5, 0.8, 0.1}, .stand = {1, 0.4, 0.7, 0.1}};
  EXPECT_EQ(standing_guesses(chances, std::array{0.9, 0.9, 0.05}), 3U);
  EXPECT_EQ(standing_guesses(chances, std::array{0.9, 0.7, 0.2}), 2U);
  EXPECT_EQ(standing_guesses(chances, std::array{0.4, 0.71, 0.2}), 1U);
  EXPECT_EQ(standing_guesses(chances, std::array{0.41, 0.71, 0.2}), 0U);
  EXPECT_EQ(standing_guesses(block_chances({}), {}), 0U);
}

TEST(BlockVerification, a_code_that_was_never_drafted_does_not_stand) {
  const CodeChances drafted = CodeChances::only(4);
  const CodeChances model = {{2, 4}, {0.25, 0.75}};
  EXPECT_EQ(block_chances(std::array{BlockGuess{2, drafted, model}}).stand[1], 0);
  EXPECT_EQ(block_chances(std::array{BlockGuess{4, drafted, model}}).stand[1], 0.75);
  EXPECT_EQ(residual_of(model, drafted, 1).codes, std::vector<int32_t>{2});
  EXPECT_EQ(residual_of(drafted, drafted, 1).codes, drafted.codes);  // of nothing, the model's own
}

}  // namespace
}  // namespace heartmula

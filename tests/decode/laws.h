// Whether two ways to draw have the same distribution.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace heartmula {

/// Pearson's test of two samples, at 5 standard deviations; what is too rare to count goes together.
template <typename Value>
void expect_same_law(const std::vector<Value>& one, const std::vector<Value>& other, const std::string& what) {
  std::map<Value, std::array<double, 2>> counts;
  for (const Value& value : one) ++counts[value][0];
  for (const Value& value : other) ++counts[value][1];
  const double share = static_cast<double>(one.size()) / static_cast<double>(one.size() + other.size());
  std::array<double, 2> rare = {};
  double squares = 0;
  int cells = 0;
  const auto add = [&](const std::array<double, 2>& cell) {
    const double all = cell[0] + cell[1];
    squares += std::pow(cell[0] - all * share, 2) / (all * share * (1 - share));
    ++cells;
  };
  for (const auto& [value, cell] : counts) {
    if (cell[0] + cell[1] >= 20) {
      add(cell);
    } else {
      rare[0] += cell[0];
      rare[1] += cell[1];
    }
  }
  if (rare[0] + rare[1] >= 20) add(rare);
  const double freedom = cells - 1;
  EXPECT_LT(squares, freedom + 5 * std::sqrt(2 * freedom) + 5) << what << ": " << cells << " cells";
}

}  // namespace heartmula

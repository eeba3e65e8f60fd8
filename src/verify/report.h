// What a verification found: one line a stage.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

namespace heartmula {

struct Check {
  std::string stage;  // "lm f32.cfg1.5 logits"
  std::string what;   // what was compared, or what is wrong
  int64_t values = 0;
  double rms = 0;       // of the difference over RMS of the reference, of the worst tensor
  double greatest = 0;  // difference over RMS of the reference
  std::string tolerance;
  bool passed = false;
};

/// Compares tensors of one stage; keeps the worst.
class Comparison {
 public:
  /// Relative to `scale` if it is given, else to the RMS of `expected`.
  void add(std::span<const float> actual, std::span<const float> expected, double scale = 0);

  int64_t values() const { return values_; }
  double rms() const { return rms_; }
  double greatest() const { return greatest_; }
  /// Passes if something was compared and every tensor is within the limits (a limit of 0 is none).
  Check check(std::string stage, std::string what, double rms_limit, double greatest_limit = 0) const;

 private:
  int64_t values_ = 0;
  double rms_ = 0;
  double greatest_ = 0;
};

double root_mean_square(std::span<const float> values);

/// Of things that must be equal.
Check equality(std::string stage, std::string what, int64_t values, int64_t differences);

bool all_passed(const std::vector<Check>& checks);
std::string to_table(const std::vector<Check>& checks, const std::string& device);
nlohmann::json to_json(const std::vector<Check>& checks, const std::string& device);

}  // namespace heartmula

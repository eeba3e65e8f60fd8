#include "verify/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace heartmula {

double root_mean_square(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return values.empty() ? 0.0 : std::sqrt(sum / static_cast<double>(values.size()));
}

void Comparison::add(std::span<const float> actual, std::span<const float> expected, double scale) {
  values_ += static_cast<int64_t>(expected.size());
  if (actual.size() != expected.size()) {
    rms_ = greatest_ = std::numeric_limits<double>::infinity();
    return;
  }
  if (scale == 0) scale = root_mean_square(expected);
  double sum = 0;
  double greatest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    sum += difference * difference;
    // A comparison with a number that is none is false: it must count as the greatest difference of all.
    greatest = difference <= greatest ? greatest : (std::isnan(difference) ? INFINITY : difference);
  }
  const double rms = std::sqrt(sum / static_cast<double>(actual.size())) / scale;
  rms_ = std::max(rms_, std::isnan(rms) ? std::numeric_limits<double>::infinity() : rms);
  greatest_ = std::max(greatest_, greatest / scale);
}

Check Comparison::check(std::string stage, std::string what, double rms_limit, double greatest_limit) const {
  std::string tolerance = fmt::format("{:.1e}", rms_limit);
  if (greatest_limit > 0) tolerance += fmt::format(", greatest {:.1e}", greatest_limit);
  const bool passed = values_ > 0 && rms_ <= rms_limit && (greatest_limit == 0 || greatest_ <= greatest_limit);
  return {std::move(stage), std::move(what), values_, rms_, greatest_, std::move(tolerance), passed};
}

Check equality(std::string stage, std::string what, int64_t values, int64_t differences) {
  Check check{std::move(stage), std::move(what), values, 0, 0, "equal", values > 0 && differences == 0};
  if (differences > 0) check.what += fmt::format("; {} differ", differences);
  return check;
}

bool all_passed(const std::vector<Check>& checks) {
  return !checks.empty() && std::all_of(checks.begin(), checks.end(), [](const Check& c) { return c.passed; });
}

std::string to_table(const std::vector<Check>& checks, const std::string& device) {
  std::string table = fmt::format("{:<28} {:>10} {:>10} {:>10}  {:<26} {:<6} {}\n", "stage", "values", "rms",
                                  "greatest", "tolerance", "", "compared");
  for (const Check& c : checks) {
    table += fmt::format("{:<28} {:>10} {:>10.1e} {:>10.1e}  {:<26} {:<6} {}\n", c.stage, c.values, c.rms, c.greatest,
                         c.tolerance, c.passed ? "pass" : "FAIL", c.what);
  }
  const auto failed = std::count_if(checks.begin(), checks.end(), [](const Check& c) { return !c.passed; });
  table += failed == 0 ? fmt::format("all {} stages pass on {}\n", checks.size(), device)
                       : fmt::format("{} of {} stages FAIL on {}\n", failed, checks.size(), device);
  return table;
}

nlohmann::json to_json(const std::vector<Check>& checks, const std::string& device) {
  nlohmann::json stages = nlohmann::json::array();
  for (const Check& c : checks) {
    stages.push_back({{"stage", c.stage},
                      {"compared", c.what},
                      {"values", c.values},
                      {"rms", c.rms},
                      {"greatest", c.greatest},
                      {"tolerance", c.tolerance},
                      {"passed", c.passed}});
  }
  return {{"passed", all_passed(checks)}, {"device", device}, {"stages", stages}};
}

}  // namespace heartmula

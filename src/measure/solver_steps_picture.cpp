#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "measure/solver_steps.h"

namespace heartmula {

std::string draw_solver_steps(const nlohmann::json& steps) {
  constexpr double kWidth = 900, kHeight = 560, kLeft = 60, kTop = 30, kRight = 40, kBottom = 60;
  double most_evaluations = 1;
  double most_db = 0.1;
  for (const nlohmann::json& row : steps["rows"]) {
    if (row["kind"] != "try") continue;
    most_evaluations = std::max(most_evaluations, row["evaluations"].get<double>());
    most_db = std::max(most_db, row["log_mel_db"].get<double>());
  }
  most_evaluations = std::ceil(most_evaluations / 5) * 5;
  most_db = std::ceil(most_db * 5) / 5;
  const auto x_of = [&](double e) { return kLeft + e / most_evaluations * (kWidth - kLeft - kRight); };
  const auto y_of = [&](double db) { return kHeight - kBottom - db / most_db * (kHeight - kTop - kBottom); };
  std::string svg = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" font-family="sans-serif" font-size="11">)"
      R"(<rect width="{0}" height="{1}" fill="white"/>)"
      "\n",
      kWidth, kHeight);
  const auto line = [&](double x1, double y1, double x2, double y2, const char* style) {
    svg += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2, style);
  };
  const auto text = [&](double x, double y, const std::string& letters, const char* style) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, letters);
  };
  constexpr const char* kGrid = "stroke=\"#ddd\"";
  for (int evaluations = 0; evaluations <= most_evaluations; evaluations += 5) {
    const double e = evaluations;
    line(x_of(e), y_of(0), x_of(e), y_of(most_db), kGrid);
    text(x_of(e), y_of(0) + 16, fmt::format("{:g}", e), "text-anchor=\"middle\"");
  }
  for (int fifth = 0; fifth <= std::lround(most_db * 5); ++fifth) {
    const double db = fifth / 5.0;
    line(x_of(0), y_of(db), x_of(most_evaluations), y_of(db), kGrid);
    text(x_of(0) - 6, y_of(db) + 4, fmt::format("{:.1f}", db), "text-anchor=\"end\"");
  }
  text(kWidth / 2, kHeight - 18, "evaluations of the flow transformer a window", "text-anchor=\"middle\"");
  text(kLeft, 18, "log-mel distance from the fine solution, dB", "");
  for (const nlohmann::json& row : steps["rows"]) {
    const auto words = row["try"].get<std::string>();
    if (row["kind"] != "try") continue;
    const double x = x_of(row["evaluations"].get<double>());
    const double y = y_of(row["log_mel_db"].get<double>());
    const bool is_preset = words.starts_with("quality=");
    svg +=
        fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", x, y, is_preset ? "#c22" : "#268");
    const bool is_right = x > kWidth * 0.6;
    text(x + (is_right ? -7 : 7), y + 4, words, is_right ? "text-anchor=\"end\"" : "");
  }
  return svg + "</svg>\n";
}

}  // namespace heartmula

#include "measure/colour_map.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace heartmula {
namespace {

// OKLab to linear sRGB: cubes of l, m, s, mixed.
std::array<double, 3> linear_rgb(double lightness, double a, double b) {
  const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
  const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
  const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
  return {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
          -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
          -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
}

uint8_t encoded(double linear) {
  const double value = linear <= 0.0031308 ? 12.92 * linear : 1.055 * std::pow(linear, 1 / 2.4) - 0.055;
  return static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0, 1.0)));
}

}  // namespace

Colour colour_of_level(double level) {
  level = std::clamp(level, 0.0, 1.0);
  const double lightness = 0.13 + 0.84 * level;
  // From violet by way of red to yellow.
  const double hue = (-70 + 175 * level) * std::numbers::pi / 180;
  double chroma = 0.19 * std::sin(std::numbers::pi * std::pow(level, 0.8)) + 0.06 * level;
  // What sRGB cannot show loses chroma and keeps its lightness.
  std::array<double, 3> rgb = {};
  for (;; chroma *= 0.97) {
    rgb = linear_rgb(lightness, chroma * std::cos(hue), chroma * std::sin(hue));
    const auto [least, most] = std::minmax_element(rgb.begin(), rgb.end());
    constexpr double kTolerance = 1e-3;
    if ((*least >= -kTolerance && *most <= 1 + kTolerance) || chroma < kTolerance) break;
  }
  return {encoded(rgb[0]), encoded(rgb[1]), encoded(rgb[2])};
}

}  // namespace heartmula

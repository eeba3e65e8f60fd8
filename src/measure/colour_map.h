// Colours for levels.
#pragma once

#include <array>
#include <cstdint>

namespace heartmula {

using Colour = std::array<uint8_t, 3>;  ///< red, green, blue (sRGB)

/// `level` from 0 (nearly black) over violet and orange to 1 (pale yellow). Lightness rises in proportion, so equal
/// steps look equal, also in grey and to the colour-blind. Computed in OKLab (Björn Ottosson 2020, "A perceptual color
/// space for image processing").
Colour colour_of_level(double level);

}  // namespace heartmula

// A picture of pixels, with a little lettering, as a PNG file.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "measure/colour_map.h"

namespace heartmula {

class Picture {
 public:
  Picture(int width, int height, const Colour& background);

  int width() const { return width_; }
  int height() const { return height_; }
  /// x to the right, y downwards. What lies outside is not drawn.
  void set(int x, int y, const Colour& colour);
  void fill(int x, int y, int width, int height, const Colour& colour);

  /// Digits, space, and `. : - + k H z d B s`, kTextHeight high, with the upper left corner there.
  void text(int x, int y, std::string_view letters, const Colour& colour);
  static int text_width(std::string_view letters);
  static constexpr int kTextHeight = 14;

  /// A PNG file (8-bit RGB).
  std::vector<std::byte> png() const;

 private:
  int width_;
  int height_;
  std::vector<uint8_t> pixels_;  // [height, width, 3]
};

}  // namespace heartmula

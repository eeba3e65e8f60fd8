#include "measure/picture.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"

namespace heartmula {
namespace {

constexpr int kGlyphWidth = 5;
constexpr int kGlyphHeight = 7;
constexpr int kScale = Picture::kTextHeight / kGlyphHeight;
constexpr int kAdvance = (kGlyphWidth + 1) * kScale;

using Glyph = std::array<std::string_view, kGlyphHeight>;
constexpr std::array<std::pair<char, Glyph>, 20> kGlyphs = {{
    {'0', {" ### ", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "}},
    {'1', {"  #  ", " ##  ", "# #  ", "  #  ", "  #  ", "  #  ", "#####"}},
    {'2', {" ### ", "#   #", "    #", "  ## ", " #   ", "#    ", "#####"}},
    {'3', {" ### ", "#   #", "    #", "  ## ", "    #", "#   #", " ### "}},
    {'4', {"   # ", "  ## ", " # # ", "#  # ", "#####", "   # ", "   # "}},
    {'5', {"#####", "#    ", "#### ", "    #", "    #", "#   #", " ### "}},
    {'6', {" ### ", "#    ", "#### ", "#   #", "#   #", "#   #", " ### "}},
    {'7', {"#####", "    #", "   # ", "   # ", "  #  ", "  #  ", "  #  "}},
    {'8', {" ### ", "#   #", "#   #", " ### ", "#   #", "#   #", " ### "}},
    {'9', {" ### ", "#   #", "#   #", " ####", "    #", "    #", " ### "}},
    {'.', {"     ", "     ", "     ", "     ", "     ", " ##  ", " ##  "}},
    {':', {"     ", " ##  ", " ##  ", "     ", " ##  ", " ##  ", "     "}},
    {'-', {"     ", "     ", "     ", "#####", "     ", "     ", "     "}},
    {'+', {"     ", "  #  ", "  #  ", "#####", "  #  ", "  #  ", "     "}},
    {'k', {"#    ", "#    ", "#  # ", "# #  ", "##   ", "# #  ", "#  # "}},
    {'H', {"#   #", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"}},
    {'z', {"     ", "     ", "#####", "   # ", "  #  ", " #   ", "#####"}},
    {'d', {"    #", "    #", " ####", "#   #", "#   #", "#   #", " ####"}},
    {'B', {"#### ", "#   #", "#   #", "#### ", "#   #", "#   #", "#### "}},
    {'s', {"     ", "     ", " ####", "#    ", " ### ", "    #", "#### "}},
}};

}  // namespace

Picture::Picture(int width, int height, const Colour& background)
    : width_(width), height_(height), pixels_(static_cast<size_t>(width) * static_cast<size_t>(height) * 3) {
  fill(0, 0, width, height, background);
}

void Picture::set(int x, int y, const Colour& colour) {
  if (x < 0 || x >= width_ || y < 0 || y >= height_) return;
  const size_t at = 3 * (static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x));
  std::copy(colour.begin(), colour.end(), pixels_.begin() + static_cast<ptrdiff_t>(at));
}

void Picture::fill(int x, int y, int width, int height, const Colour& colour) {
  for (int row = y; row < y + height; ++row) {
    for (int column = x; column < x + width; ++column) set(column, row, colour);
  }
}

void Picture::text(int x, int y, std::string_view letters, const Colour& colour) {
  for (const char letter : letters) {
    const auto* glyph = std::find_if(kGlyphs.begin(), kGlyphs.end(), [&](const auto& g) { return g.first == letter; });
    if (glyph != kGlyphs.end()) {
      for (int row = 0; row < kGlyphHeight; ++row) {
        for (int column = 0; column < kGlyphWidth; ++column) {
          if (glyph->second[static_cast<size_t>(row)][static_cast<size_t>(column)] != '#') continue;
          fill(x + column * kScale, y + row * kScale, kScale, kScale, colour);
        }
      }
    }
    x += kAdvance;
  }
}

int Picture::text_width(std::string_view letters) {
  return letters.empty() ? 0 : static_cast<int>(letters.size()) * kAdvance - kScale;
}

std::vector<std::byte> Picture::png() const {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width_);
  image.height = static_cast<png_uint_32>(height_);
  image.format = PNG_FORMAT_RGB;
  constexpr size_t kOverhead = 1 << 16;  // a byte a row, headers; what cannot be compressed hardly grows
  std::vector<std::byte> bytes(pixels_.size() + pixels_.size() / 64 + kOverhead);
  png_alloc_size_t size = bytes.size();
  if (png_image_write_to_memory(&image, bytes.data(), &size, /*convert_to_8_bit=*/0, pixels_.data(),
                                /*row_stride=*/0, nullptr) == 0) {
    throw failure("the picture cannot be encoded: {}", image.message);
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace heartmula

#include "audio/mp3.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace heartmula {
namespace {

constexpr size_t kHeaderBytes = 4;

/// Of an ID3v2 tag at the beginning; 0 if there is none. Its length is four numbers of seven bits.
size_t tag_bytes(std::span<const std::byte> file) {
  constexpr size_t kTagHeader = 10;
  constexpr std::array kName = {std::byte{'I'}, std::byte{'D'}, std::byte{'3'}};
  if (file.size() < kTagHeader || !std::equal(kName.begin(), kName.end(), file.begin())) return 0;
  size_t length = 0;
  for (size_t i = 6; i < kTagHeader; ++i) length = length << 7 | std::to_integer<size_t>(file[i] & std::byte{0x7F});
  return kTagHeader + length;
}

/// Of the frame of MPEG 1, 2 or 2.5, layer III, that begins here; nothing if none does, or if it does not say.
std::optional<size_t> frame_bytes(std::span<const std::byte> file) {
  constexpr std::array<size_t, 16> kKilobits1 = {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0};
  constexpr std::array<size_t, 16> kKilobits2 = {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0};
  constexpr std::array<size_t, 4> kRates = {44100, 48000, 32000, 0};
  if (file.size() < kHeaderBytes) return std::nullopt;
  const auto bits = [&file](size_t byte, int shift, unsigned mask) {
    return std::to_integer<unsigned>(file[byte]) >> shift & mask;
  };
  const bool has_sync = file[0] == std::byte{0xFF} && bits(1, 5, 7) == 7;
  const unsigned version = bits(1, 3, 3);  // 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
  const unsigned layer = bits(1, 1, 3);    // 1: layer III
  if (!has_sync || version == 1 || layer != 1) return std::nullopt;
  const size_t rate = kRates[bits(2, 2, 3)] >> (version == 3 ? 0 : version == 2 ? 1 : 2);
  const size_t kilobits = (version == 3 ? kKilobits1 : kKilobits2)[bits(2, 4, 15)];
  if (rate == 0 || kilobits == 0) return std::nullopt;
  return (version == 3 ? 144 : 72) * 1000 * kilobits / rate + bits(2, 1, 1);
}

}  // namespace

bool is_cut_mp3(std::span<const std::byte> file) {
  const size_t tag = tag_bytes(file);
  if (tag > file.size()) return true;
  file = file.subspan(tag);
  while (const std::optional<size_t> frame = frame_bytes(file)) {
    if (*frame > file.size()) return true;
    file = file.subspan(*frame);
  }
  return false;
}

}  // namespace heartmula

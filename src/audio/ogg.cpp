#include "audio/ogg.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "audio/output_stream.h"

namespace heartmula {
namespace {

// A page: "OggS", version, flags, position (8 bytes), serial number, page number, checksum, count of segments, their
// lengths, and what they hold.
constexpr size_t kFlags = 5;
constexpr size_t kSerial = 14;
constexpr size_t kChecksum = 22;
constexpr size_t kSegments = 26;
constexpr size_t kPageHeaderBytes = 27;
constexpr std::byte kLastPage{4};

bool is_page(std::span<const std::byte> bytes) {
  return bytes.size() >= kPageHeaderBytes && std::memcmp(bytes.data(), "OggS", 4) == 0;
}

/// Of the header and the lengths behind it.
size_t head_bytes(std::span<const std::byte> page) {
  return kPageHeaderBytes + std::to_integer<size_t>(page[kSegments]);
}

size_t body_bytes(std::span<const std::byte> head) {
  size_t count = 0;
  for (const std::byte length : head.subspan(kPageHeaderBytes)) count += std::to_integer<size_t>(length);
  return count;
}

constexpr std::array<uint32_t, 256> make_checksum_table() {
  constexpr uint32_t kPolynomial = 0x04C11DB7;
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t value = i << 24;
    for (int bit = 0; bit < 8; ++bit) value = (value << 1) ^ ((value >> 31) * kPolynomial);
    table[i] = value;
  }
  return table;
}

uint32_t checksum(uint32_t begin, std::span<const std::byte> bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_checksum_table();
  uint32_t sum = begin;
  for (const std::byte byte : bytes) sum = (sum << 8) ^ kTable[(sum >> 24) ^ std::to_integer<uint32_t>(byte)];
  return sum;
}

void set_number(std::span<std::byte> page, size_t at, uint32_t number) {
  for (size_t i = 0; i < 4; ++i) page[at + i] = static_cast<std::byte>(number >> (8 * i));
}

/// The page at the position, which moves behind it.
std::optional<std::vector<std::byte>> read_page(OutputStream& file) {
  std::vector<std::byte> page(kPageHeaderBytes);
  const auto append = [&](size_t count) {
    const size_t before = page.size();
    page.resize(before + count);
    return file.read(page.data() + before, count) == count;
  };
  if (file.read(page.data(), kPageHeaderBytes) != kPageHeaderBytes || !is_page(page)) return std::nullopt;
  if (!append(std::to_integer<size_t>(page[kSegments])) || !append(body_bytes(page))) return std::nullopt;
  return page;
}

}  // namespace

bool is_cut_ogg(std::span<const std::byte> file) {
  if (!is_page(file)) return false;
  bool is_whole = false;
  while (is_page(file)) {
    const size_t head = head_bytes(file);
    if (file.size() < head) return true;
    const size_t page = head + body_bytes(file.first(head));
    if (file.size() < page) return true;
    is_whole = (file[kFlags] & kLastPage) != std::byte{0};
    file = file.subspan(page);
  }
  return !is_whole;
}

void set_ogg_serial(OutputStream& file) {
  uint32_t serial = 0;
  file.seek(0);
  while (auto page = read_page(file)) {
    set_number(*page, kSerial, 0);
    set_number(*page, kChecksum, 0);
    serial = checksum(serial, *page);
  }
  file.seek(0);
  int64_t at = 0;
  while (auto page = read_page(file)) {
    set_number(*page, kSerial, serial);
    set_number(*page, kChecksum, 0);
    set_number(*page, kChecksum, checksum(0, *page));
    file.seek(at);
    file.write(page->data(), page->size());
    at += static_cast<int64_t>(page->size());
  }
}

}  // namespace heartmula

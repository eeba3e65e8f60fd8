#include "tensor/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "tensor/safetensors.h"

namespace heartmula {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kMaxRank = 64;

// Takes the header {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...} apart, event by event: it
// knows where it is by `place_`, so nothing that the format does not have is ever built, however deep or long.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  SafetensorsHeader header;
  std::string problem;

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction or a huge number"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_integer(number_integer_t value) override {
    if (value < 0 && (place_ == Place::kShape || place_ == Place::kOffsets)) return fail("has a negative number");
    return number_unsigned(static_cast<uint64_t>(value));
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return fail("has a dimension beyond 2^63");
      if (header.entries.back().shape.size() == kMaxRank) return fail("has more than 64 dimensions");
      header.entries.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_ == 2) return fail("has more than two data_offsets");
      (offsets_++ == 0 ? header.entries.back().begin : header.entries.back().end) = value;
      return true;
    }
    return unexpected("a number");
  }

  bool string(string_t& value) override {
    if (place_ == Place::kDType) {
      header.entries.back().dtype = dtype_from_name(value);
      header.entries.back().dtype_name = std::move(value);
      place_ = Place::kTensor;
      return true;
    }
    if (place_ == Place::kMetadataValue) {
      header.metadata[key_] = std::move(value);
      place_ = Place::kMetadata;
      return true;
    }
    return unexpected("a string");
  }

  bool key(string_t& name) override {
    switch (place_) {
      case Place::kTop:
        if (name == kSafetensorsMetadata) {
          if (std::exchange(has_metadata_, true)) return fail_with("has two entries \"__metadata__\"");
          place_ = Place::kMetadataStart;
        } else {
          header.entries.emplace_back().name = std::move(name);
          place_ = Place::kTensorStart;
        }
        return true;
      case Place::kMetadata:
        if (header.metadata.contains(name))
          return fail_with(fmt::format("has two entries {} in __metadata__", in_quotes(name)));
        key_ = std::move(name);
        place_ = Place::kMetadataValue;
        return true;
      default:  // kTensor
        return field(name);
    }
  }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTensorStart:
        fields_ = 0;
        place_ = Place::kTensor;
        return true;
      case Place::kMetadataStart:
        place_ = Place::kMetadata;
        return true;
      default:
        return unexpected("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::kTensor && fields_ != (kHasDType | kHasShape | kHasOffsets)) {
      return fail("lacks its dtype, shape or data_offsets");
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::kShapeStart) {
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kOffsetsStart) {
      offsets_ = 0;
      place_ = Place::kOffsets;
      return true;
    }
    return unexpected("a list");
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_ != 2) return fail("has fewer than two data_offsets");
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return fail_with(fmt::format("is not valid JSON (byte {})", position));
  }

 private:
  enum class Place {
    kStart,
    kTop,
    kTensorStart,
    kTensor,
    kDType,
    kShapeStart,
    kShape,
    kOffsetsStart,
    kOffsets,
    kMetadataStart,
    kMetadata,
    kMetadataValue,
    kEnd,
  };
  enum Field : unsigned { kHasDType = 1, kHasShape = 2, kHasOffsets = 4 };

  bool field(const std::string& name) {
    Field bit{};
    if (name == "dtype") {
      bit = kHasDType;
      place_ = Place::kDType;
    } else if (name == "shape") {
      bit = kHasShape;
      place_ = Place::kShapeStart;
    } else if (name == "data_offsets") {
      bit = kHasOffsets;
      place_ = Place::kOffsetsStart;
    } else {
      return fail(fmt::format("has an unknown entry {}", in_quotes(name)));
    }
    if ((fields_ & bit) != 0) return fail(fmt::format("has two entries {}", in_quotes(name)));
    fields_ |= bit;
    return true;
  }

  bool fail_with(std::string message) {
    problem = std::move(message);
    return false;
  }

  /// Of the tensor that is being read.
  bool fail(const std::string& message) {
    return fail_with(fmt::format("is broken: tensor {} {}", in_quotes(header.entries.back().name), message));
  }

  bool unexpected(const char* what) {
    switch (place_) {
      case Place::kStart:
      case Place::kTop:
      case Place::kEnd:
        return fail_with(fmt::format("is {} and not an object", what));
      case Place::kMetadataStart:
      case Place::kMetadata:
      case Place::kMetadataValue:
        return fail_with(fmt::format("is broken: __metadata__ must be strings by name, but has {}", what));
      default:
        return fail(fmt::format("has {} where its dtype, shape or data_offsets should be", what));
    }
  }

  Place place_ = Place::kStart;
  unsigned fields_ = 0;
  int offsets_ = 0;
  bool has_metadata_ = false;
  std::string key_;
};

/// Bytes of a tensor; nothing if they are more than 2^63.
std::optional<uint64_t> byte_size(const SafetensorsHeader::Entry& entry) {
  if (std::ranges::find(entry.shape, 0) != entry.shape.end()) return 0;
  auto bytes = static_cast<int64_t>(dtype_size(*entry.dtype));
  for (const int64_t dimension : entry.shape) {
    if (__builtin_mul_overflow(bytes, dimension, &bytes)) return std::nullopt;
  }
  return static_cast<uint64_t>(bytes);
}

/// Checks each entry by itself: a known dtype, and as many bytes as the shape asks for.
void check_entry(const SafetensorsHeader::Entry& entry, const std::string& file) {
  if (!entry.dtype) {
    throw user_error("{}: tensor {} has the dtype {}, which is not supported", file, in_quotes(entry.name),
                     in_quotes(entry.dtype_name));
  }
  const std::optional<uint64_t> bytes = byte_size(entry);
  if (!bytes) {
    throw user_error("{}: tensor {} has an absurd shape {}", file, in_quotes(entry.name), shape_string(entry.shape));
  }
  if (entry.begin > entry.end) {
    throw user_error("{}: tensor {} ends before it begins (data_offsets {}, {})", file, in_quotes(entry.name),
                     entry.begin, entry.end);
  }
  if (entry.end - entry.begin != *bytes) {
    throw user_error("{}: tensor {} has {} bytes of data, but {} {} needs {}", file, in_quotes(entry.name),
                     entry.end - entry.begin, entry.dtype_name, shape_string(entry.shape), *bytes);
  }
}

/// Checks that the tensors, one after another, are all of the data: no overlap, no gap, nothing missing or left over.
void check_layout(const std::vector<SafetensorsHeader::Entry>& entries, uint64_t header_end, uint64_t file_bytes,
                  const std::string& file) {
  std::vector<const SafetensorsHeader::Entry*> ordered;
  ordered.reserve(entries.size());
  for (const SafetensorsHeader::Entry& entry : entries) ordered.push_back(&entry);
  std::ranges::sort(ordered, {},
                    [](const SafetensorsHeader::Entry* entry) { return std::pair(entry->begin, entry->end); });

  uint64_t end = 0;
  for (const SafetensorsHeader::Entry* entry : ordered) {
    if (entry->begin != end) {
      throw user_error("{}: tensor {} begins at byte {} of the data, but the one before it ends at {}", file,
                       in_quotes(entry->name), entry->begin, end);
    }
    end = entry->end;
  }
  const uint64_t data_bytes = file_bytes - header_end;
  if (data_bytes < end) {
    throw user_error("{}: truncated: {} bytes expected, {} found; is the download complete?", file, header_end + end,
                     file_bytes);
  }
  if (data_bytes > end) {
    throw user_error("{}: {} bytes expected, {} found: something follows the last tensor", file, header_end + end,
                     file_bytes);
  }
}

/// The JSON text at the beginning of a file. Checks its length.
std::string_view header_text(std::span<const std::byte> bytes, const std::string& file) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  uint64_t length = 0;
  if (bytes.size() >= sizeof length) std::memcpy(&length, bytes.data(), sizeof length);
  const bool is_plausible =
      length > 0 && length <= kMaxHeaderBytes && text.size() > sizeof length && text[sizeof length] == '{';
  if (!is_plausible) refuse_other_kind(bytes, FileKind::kSafetensors, file);
  if (bytes.size() < sizeof length) {
    throw user_error("{}: truncated: {} bytes are too few for a safetensors file; is the download complete?", file,
                     bytes.size());
  }
  if (length > kMaxHeaderBytes) {
    throw user_error("{}: is not a safetensors file (its first 8 bytes would be a header of {} bytes; {} are allowed)",
                     file, length, kMaxHeaderBytes);
  }
  if (length > bytes.size() - sizeof length) {
    throw user_error("{}: truncated: {} bytes of header expected, {} found; is the download complete?", file, length,
                     bytes.size() - sizeof length);
  }
  if (length == 0 || text[sizeof length] != '{') {
    throw user_error("{}: is not a safetensors file (its header does not begin with {{)", file);
  }
  return text.substr(sizeof length, length);
}

}  // namespace

SafetensorsHeader read_safetensors_header(std::span<const std::byte> file, const std::string& name) {
  const std::string_view text = header_text(file, name);
  // The parser takes a NUL byte for the end of its input.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw user_error("{}: the header is not valid JSON (byte {})", name, nul + 1);
  }
  HeaderReader reader;
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) {
    throw user_error("{}: the header {}", name, reader.problem);
  }
  SafetensorsHeader header = std::move(reader.header);
  header.bytes = sizeof(uint64_t) + text.size();
  std::vector<SafetensorsHeader::Entry>& entries = header.entries;
  std::ranges::sort(entries, {}, &SafetensorsHeader::Entry::name);
  if (const auto twice = std::ranges::adjacent_find(entries, {}, &SafetensorsHeader::Entry::name);
      twice != entries.end()) {
    throw user_error("{}: the header has two tensors {}", name, in_quotes(twice->name));
  }
  for (const SafetensorsHeader::Entry& entry : entries) check_entry(entry, name);
  check_layout(entries, header.bytes, file.size(), name);
  return header;
}

}  // namespace heartmula

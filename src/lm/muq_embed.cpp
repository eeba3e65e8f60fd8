#include "lm/muq_embed.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "tensor/safetensors.h"

namespace heartmula {
namespace {

constexpr std::string_view kNumpyMagic = "\x93NUMPY";

/// Numbers as they lie in a file.
struct Array {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

/// What stands behind 'KEY': in the header, a Python dictionary.
std::string_view header_value(std::string_view header, std::string_view key) {
  const size_t found = header.find(fmt::format("'{}':", key));
  if (found == std::string_view::npos) return {};
  header.remove_prefix(found + key.size() + 3);
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  return header;
}

/// "(1, 512)"
std::optional<std::vector<int64_t>> parse_shape(std::string_view text) {
  if (!text.starts_with('(') || text.find(')') == std::string_view::npos) return std::nullopt;
  text = text.substr(1, text.find(')') - 1);
  std::vector<int64_t> shape;
  while (!text.empty()) {
    int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || size < 0) return std::nullopt;
    shape.push_back(size);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    text.remove_prefix(std::min(text.find_first_not_of(", "), text.size()));
  }
  return shape;
}

/// github.com/numpy/numpy, numpy/lib/format.py: magic, version, length of the header (two bytes, from version 2 on
/// four), header, values.
Array parse_numpy(std::span<const std::byte> bytes, const std::string& name) {
  const auto byte = [&](size_t i) { return i < bytes.size() ? static_cast<size_t>(bytes[i]) : 0; };
  const size_t version = byte(kNumpyMagic.size());
  const size_t length_bytes = version == 1 ? 2 : 4;
  const size_t begin = kNumpyMagic.size() + 2 + length_bytes;
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) length |= byte(kNumpyMagic.size() + 2 + i) << (8 * i);
  if (version < 1 || version > 3 || begin > bytes.size() || length > bytes.size() - begin) {
    throw user_error("{}: is cut short, or a NumPy file of a version that this program does not know", name);
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + begin, length);
  Array array;
  const std::string_view descr = header_value(header, "descr");
  if (descr.starts_with("'<f2'")) {
    array.dtype = DType::kF16;
  } else if (descr.starts_with("'<f4'")) {
    array.dtype = DType::kF32;
  } else if (descr.starts_with("'<f8'")) {
    array.dtype = DType::kF64;
  } else {
    throw user_error("{}: holds no little-endian float16, float32 or float64; save it with array.astype(\"<f4\")",
                     name);
  }
  const std::optional<std::vector<int64_t>> shape = parse_shape(header_value(header, "shape"));
  if (!shape) throw user_error("{}: has no shape in its header", name);
  array.shape = *shape;
  array.data = bytes.subspan(begin + length);
  return array;
}

Array only_tensor(const SafetensorsFile& file) {
  if (file.tensors().size() != 1) {
    throw user_error("{}: holds {} tensors; the style vector must be the only one", file.name(), file.tensors().size());
  }
  const StoredTensor& tensor = file.tensors().front();
  return {tensor.dtype, tensor.shape, tensor.data};
}

std::vector<float> values_of(const Array& array, int64_t size, const std::string& name) {
  const bool is_vector = std::ranges::count(array.shape, size) == 1 &&
                         std::ranges::all_of(array.shape, [size](int64_t n) { return n == 1 || n == size; });
  if (!is_vector) {
    throw user_error("{}: is {}, but the model's style vector has {} numbers", name, shape_string(array.shape), size);
  }
  if (array.data.size() != static_cast<size_t>(size) * dtype_size(array.dtype)) {
    throw user_error("{}: has {} bytes of values instead of {}; is it cut short?", name, array.data.size(),
                     static_cast<size_t>(size) * dtype_size(array.dtype));
  }
  std::vector<float> values(static_cast<size_t>(size));
  if (array.dtype == DType::kF64) {
    std::vector<double> doubles(values.size());
    std::memcpy(doubles.data(), array.data.data(), array.data.size());
    std::ranges::transform(doubles, values.begin(), [](double value) { return static_cast<float>(value); });
  } else if (array.dtype == DType::kF32 || array.dtype == DType::kF16 || array.dtype == DType::kBF16) {
    convert_to_f32(values.data(), array.data.data(), array.dtype, 0, size);
  } else {
    throw user_error("{}: has the dtype {}; F32, BF16, F16 and F64 are supported", name, dtype_name(array.dtype));
  }
  if (!std::ranges::all_of(values, [](float value) { return std::isfinite(value); })) {
    throw user_error("{}: holds a number that is not finite", name);
  }
  return values;
}

}  // namespace

std::vector<float> read_muq_embed(const std::filesystem::path& path, int64_t size) {
  const std::string name = path.string();
  const auto file = MappedFile::open(path);
  const std::string_view begin(reinterpret_cast<const char*>(file->bytes().data()),
                               std::min(file->bytes().size(), kNumpyMagic.size()));
  if (begin == kNumpyMagic) return values_of(parse_numpy(file->bytes(), name), size, name);
  const SafetensorsFile tensors = SafetensorsFile::open(path);
  return values_of(only_tensor(tensors), size, name);
}

}  // namespace heartmula

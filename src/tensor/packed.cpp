#include "tensor/packed.h"

#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_fields.h"
#include "tensor/fingerprint.h"

namespace heartmula {
namespace {

constexpr const char* kFormat = "heartmula-packed";
constexpr const char* kVersion = "2";
constexpr const char* kGateUp = "halves";  // of each panel
constexpr std::string_view kMatrixPrefix = "packed:";
constexpr std::string_view kGapPrefix = "gap:";
constexpr int64_t kMaxWidth = 1024;
constexpr int64_t kMaxGroup = 64;
constexpr int64_t kMaxDimension = int64_t{1} << 31;  // so that no size overflows

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

bool is_count(const nlohmann::json& json, int64_t max) {
  return json.is_number_unsigned() && json.get<uint64_t>() >= 1 && json.get<uint64_t>() <= static_cast<uint64_t>(max);
}

/// One of the strings of the metadata.
const std::string& field(const SafetensorsFile& file, const char* name) {
  const auto found = file.metadata().find(name);
  if (found == file.metadata().end()) {
    throw user_error("{}: is a packed checkpoint without {} in its metadata; convert again", file.name(), name);
  }
  return found->second;
}

PackedLayout read_layout(const SafetensorsFile& file) {
  const std::string& version = field(file, "format_version");
  if (version != kVersion) {
    throw user_error("{}: is packed in format {}, but this program knows {}; convert again", file.name(),
                     in_quotes(version), kVersion);
  }
  const auto number = [&](const char* name, int64_t max) {
    const nlohmann::json json = nlohmann::json::parse(field(file, name), nullptr, false);
    if (!is_count(json, max)) {
      throw user_error("{}: {} in the metadata must be a number from 1 to {}; convert again", file.name(), name, max);
    }
    return json.get<int64_t>();
  };
  PackedLayout layout;
  const std::optional<DType> dtype = dtype_from_name(field(file, "dtype"));
  if (dtype != DType::kF32 && dtype != DType::kBF16) {
    throw user_error("{}: dtype in the metadata must be F32 or BF16; convert again", file.name());
  }
  layout.dtype = *dtype;
  layout.panel_width = number("panel_width", kMaxWidth);
  layout.k_per_group = number("k_per_group", kMaxGroup);
  if (layout.panel_width % 2 != 0 || field(file, "gate_up") != kGateUp) {
    throw user_error("{}: has gate and up in an order that this program does not know; convert again", file.name());
  }
  return layout;
}

std::string tensor_name(const std::string& matrix) {
  return std::string(kMatrixPrefix) + matrix;
}

StoredMatrix read_matrix(const SafetensorsFile& file, const PackedLayout& layout, const std::string& name,
                         const nlohmann::json& json) {
  const nlohmann::json n = json.is_object() ? json.value("n", nlohmann::json()) : nlohmann::json();
  const nlohmann::json k = json.is_object() ? json.value("k", nlohmann::json()) : nlohmann::json();
  const nlohmann::json gated = json.is_object() ? json.value("gated", nlohmann::json()) : nlohmann::json();
  if (!is_count(n, kMaxDimension) || !is_count(k, kMaxDimension) || !gated.is_boolean()) {
    throw user_error("{}: the metadata of packed matrix {} is broken; convert again", file.name(), in_quotes(name));
  }
  const PackedIndex::Matrix matrix{name, n.get<int64_t>(), k.get<int64_t>(), gated.get<bool>()};
  const StoredTensor* tensor = file.find(tensor_name(name));
  if (tensor == nullptr)
    throw user_error("{}: lacks the packed matrix {}; convert again", file.name(), in_quotes(name));
  const TensorEntry expected = PackedIndex::entry(layout, matrix);
  if (tensor->dtype != expected.dtype || tensor->shape != expected.shape) {
    throw user_error("{}: packed matrix {} should be {} {}, but is {} {}; convert again", file.name(), in_quotes(name),
                     dtype_name(expected.dtype), shape_string(expected.shape), dtype_name(tensor->dtype),
                     shape_string(tensor->shape));
  }
  if (reinterpret_cast<uintptr_t>(tensor->data.data()) % kPackedAlignment != 0) {
    throw user_error("{}: packed matrix {} does not begin at a multiple of {} bytes; convert again", file.name(),
                     in_quotes(name), kPackedAlignment);
  }
  return {name, matrix.n, matrix.k, matrix.gated, layout, tensor->data, file.owner()};
}

std::vector<int64_t> read_shape(const SafetensorsFile& file, const std::string& name, const nlohmann::json& json) {
  std::vector<int64_t> shape;
  bool valid = json.is_array();
  for (size_t i = 0; valid && i < json.size(); ++i) {
    valid = is_count(json[i], kMaxDimension);
    if (valid) shape.push_back(json[i].get<int64_t>());
  }
  if (!valid) {
    throw user_error("{}: the shape of {} in the metadata is broken; convert again", file.name(), in_quotes(name));
  }
  return shape;
}

}  // namespace

int64_t PackedLayout::panels(int64_t n, bool gated) const {
  return divide_up(n, gated ? panel_width / 2 : panel_width);
}

int64_t PackedLayout::groups(int64_t k) const {
  return divide_up(k, k_per_group);
}

int64_t PackedLayout::bytes(int64_t n, int64_t k, bool gated) const {
  return panels(n, gated) * groups(k) * panel_width * k_per_group * static_cast<int64_t>(dtype_size(dtype));
}

void StoredMatrix::read_row(int64_t output, float* row, Half half) const {
  const int64_t outputs = gated ? layout.panel_width / 2 : layout.panel_width;
  const int64_t lane = output % outputs + (half == Half::kUp ? outputs : 0);
  const int64_t first_group = output / outputs * layout.groups(k);
  for (int64_t group = 0; group < layout.groups(k); ++group) {
    const int64_t first = group * layout.k_per_group;
    const int64_t element = ((first_group + group) * layout.panel_width + lane) * layout.k_per_group;
    convert_to_f32(row + first, data.data(), layout.dtype, element, std::min(layout.k_per_group, k - first));
  }
}

std::optional<PackedIndex> PackedIndex::parse(const SafetensorsFile& file) {
  const auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != kFormat) return std::nullopt;

  PackedIndex index;
  index.layout = read_layout(file);
  index.made_by = field(file, "made_by");
  if (file.metadata().contains("fingerprint")) index.fingerprint = field(file, "fingerprint");
  if (!index.fingerprint.empty() && !is_fingerprint(index.fingerprint)) {
    throw user_error("{}: fingerprint in the metadata is none; convert again", file.name());
  }
  const nlohmann::json matrices = parse_json_object(field(file, "matrices"), file.name() + ": matrices");
  for (const auto& [name, json] : matrices.items()) {
    index.matrices.emplace(name, read_matrix(file, index.layout, name, json));
  }
  for (const StoredTensor& tensor : file.tensors()) {
    if (!tensor.name.starts_with(kMatrixPrefix)) continue;
    if (!index.matrices.contains(tensor.name.substr(kMatrixPrefix.size()))) {
      throw user_error("{}: {} is not among the matrices in the metadata; convert again", file.name(),
                       in_quotes(tensor.name));
    }
  }
  const nlohmann::json replaced = parse_json_object(field(file, "replaces"), file.name() + ": replaces");
  for (const auto& [name, shape] : replaced.items()) index.replaced.emplace(name, read_shape(file, name, shape));
  return index;
}

bool PackedIndex::is_internal(std::string_view tensor) {
  return tensor.starts_with(kMatrixPrefix) || is_gap(tensor);
}

bool PackedIndex::is_gap(std::string_view tensor) {
  return tensor.starts_with(kGapPrefix);
}

std::map<std::string, std::string> PackedIndex::metadata(const PackedLayout& layout, const std::string& made_by,
                                                         const std::vector<Matrix>& matrices,
                                                         const std::map<std::string, std::vector<int64_t>>& replaced,
                                                         const std::string& fingerprint) {
  nlohmann::json list = nlohmann::json::object();
  for (const Matrix& matrix : matrices) list[matrix.name] = {{"n", matrix.n}, {"k", matrix.k}, {"gated", matrix.gated}};
  return {{"format", kFormat},
          {"format_version", kVersion},
          {"dtype", std::string(dtype_name(layout.dtype))},
          {"panel_width", std::to_string(layout.panel_width)},
          {"k_per_group", std::to_string(layout.k_per_group)},
          {"gate_up", kGateUp},
          {"made_by", made_by},
          {"fingerprint", fingerprint},
          {"matrices", list.dump()},
          {"replaces", nlohmann::json(replaced).dump()}};
}

TensorEntry PackedIndex::entry(const PackedLayout& layout, const Matrix& matrix) {
  return {tensor_name(matrix.name),
          layout.dtype,
          {layout.panels(matrix.n, matrix.gated), layout.groups(matrix.k), layout.panel_width, layout.k_per_group}};
}

TensorEntry PackedIndex::gap(size_t number, int64_t bytes) {
  return {std::string(kGapPrefix) + std::to_string(number), DType::kU8, {bytes}};
}

}  // namespace heartmula

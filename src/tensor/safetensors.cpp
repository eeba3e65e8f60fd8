#include "tensor/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "tensor/safetensors_header.h"

namespace heartmula {

int64_t StoredTensor::elements() const {
  return static_cast<int64_t>(data.size() / dtype_size(dtype));
}

std::string shape_string(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return read_downloaded(path, [&path] {
    std::shared_ptr<const MappedFile> mapped = MappedFile::open(path);
    SafetensorsFile file = parse(mapped->bytes(), path.string());
    file.file_ = std::move(mapped);
    return file;
  });
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, std::string name) {
  SafetensorsHeader header = read_safetensors_header(bytes, name);
  SafetensorsFile file;
  file.name_ = std::move(name);
  file.metadata_ = std::move(header.metadata);
  file.tensors_.reserve(header.entries.size());
  for (SafetensorsHeader::Entry& entry : header.entries) {
    file.tensors_.push_back({std::move(entry.name), *entry.dtype, std::move(entry.shape),
                             bytes.subspan(header.bytes + entry.begin, entry.end - entry.begin)});
  }
  return file;
}

SafetensorsFile SafetensorsFile::in_memory(std::shared_ptr<const MappedFile> memory, std::vector<StoredTensor> tensors,
                                           std::string name) {
  SafetensorsFile file;
  file.name_ = std::move(name);
  file.file_ = std::move(memory);
  file.tensors_ = std::move(tensors);
  std::ranges::sort(file.tensors_, {}, &StoredTensor::name);
  return file;
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(tensors_, name, {}, &StoredTensor::name);
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

void SafetensorsFile::release(std::span<const std::byte> data) const {
  if (file_) file_->release(data);
}

std::shared_ptr<const void> SafetensorsFile::owner() const {
  return file_;
}

int64_t TensorEntry::bytes() const {
  int64_t bytes = static_cast<int64_t>(dtype_size(dtype));
  for (const int64_t dimension : shape) bytes *= dimension;
  return bytes;
}

std::vector<std::byte> encode_safetensors_header(std::span<const TensorEntry> tensors,
                                                 const std::map<std::string, std::string>& metadata, size_t alignment) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kSafetensorsMetadata)] = metadata;
  int64_t end = 0;
  for (const TensorEntry& tensor : tensors) {
    const int64_t begin = std::exchange(end, end + tensor.bytes());
    header[tensor.name] = {
        {"dtype", dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    throw user_error("the names and metadata of a safetensors file must be valid UTF-8");
  }
  const size_t unpadded = sizeof(uint64_t) + text.size();
  text.append((alignment - unpadded % alignment) % alignment, ' ');
  const uint64_t length = text.size();
  std::vector<std::byte> bytes(sizeof length + text.size());
  std::memcpy(bytes.data(), &length, sizeof length);
  std::memcpy(bytes.data() + sizeof length, text.data(), text.size());
  return bytes;
}

std::vector<std::byte> encode_safetensors(std::span<const TensorToWrite> tensors,
                                          const std::map<std::string, std::string>& metadata) {
  // Wide elements first, as the reference does, so that every tensor is aligned to its elements.
  std::vector<const TensorToWrite*> ordered;
  for (const TensorToWrite& tensor : tensors) ordered.push_back(&tensor);
  std::ranges::stable_sort(ordered, std::greater<>(),
                           [](const TensorToWrite* tensor) { return dtype_size(tensor->dtype); });

  std::vector<TensorEntry> entries;
  for (const TensorToWrite* tensor : ordered) entries.push_back({tensor->name, tensor->dtype, tensor->shape});
  std::vector<std::byte> bytes = encode_safetensors_header(entries, metadata, sizeof(uint64_t));
  for (const TensorToWrite* tensor : ordered) bytes.insert(bytes.end(), tensor->data.begin(), tensor->data.end());
  return bytes;
}

}  // namespace heartmula

// Reading and writing safetensors files (github.com/huggingface/safetensors, README "Format").
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace heartmula {

class MappedFile;

/// One tensor of a mapped file: the data lie in the mapping and are little endian.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;

  int64_t elements() const;
};

/// "[8, 64]"
std::string shape_string(std::span<const int64_t> shape);

/// A mapped file whose header was validated in full: every size, offset, dtype and shape.
class SafetensorsFile {
 public:
  /// Throws Error(kUser) with the path and what is wrong with the file.
  static SafetensorsFile open(const std::filesystem::path& path);
  /// The same of a header and data in memory; `name` stands for the path in messages.
  static SafetensorsFile parse(std::span<const std::byte> bytes, std::string name);

  /// Tensors that lie somewhere in `memory`.
  static SafetensorsFile in_memory(std::shared_ptr<const MappedFile> memory, std::vector<StoredTensor> tensors,
                                   std::string name);

  const std::string& name() const { return name_; }
  /// Ordered by name.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// Null if there is none of that name.
  const StoredTensor* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Gives the tensor's pages back to the system; they are read again when touched.
  void release(const StoredTensor& tensor) const { release(tensor.data); }
  /// The same of a part of the data.
  void release(std::span<const std::byte> data) const;
  /// While it lives, the tensors' data do: null for a file that was parsed in memory.
  std::shared_ptr<const void> owner() const;

 private:
  std::string name_;
  std::shared_ptr<const MappedFile> file_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written.
struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

/// A tensor without its data.
struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t bytes() const;
};

/// The first bytes of a file whose tensors' data follow in this order without gaps, padded with spaces to a multiple of
/// `alignment`. Throws Error(kUser) if a name or the metadata is not UTF-8.
std::vector<std::byte> encode_safetensors_header(std::span<const TensorEntry> tensors,
                                                 const std::map<std::string, std::string>& metadata, size_t alignment);

/// The bytes of a whole file. The header is padded with spaces so that the data begin at a multiple of 8.
std::vector<std::byte> encode_safetensors(std::span<const TensorToWrite> tensors,
                                          const std::map<std::string, std::string>& metadata);

}  // namespace heartmula

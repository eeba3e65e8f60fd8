// The weights of one model: a folder with one safetensors file or several shards and an index, or a packed file, in
// which matrices stand in the kernels' layout and only the other tensors as they were.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/low_rank.h"
#include "tensor/packed.h"
#include "tensor/safetensors.h"

namespace heartmula {

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
  bool is_table = false;     // read row by row where it lies (Ops' Table): a packed checkpoint keeps it in its dtype
  bool may_be_zero = false;  // as a whole, although it is no bias

  int64_t elements() const;
};

class WeightStore {
 public:
  /// `path` is a folder with model.safetensors.index.json or model.safetensors (or exactly one other .safetensors
  /// file), or such a file. Throws Error(kUser) that names the missing or broken file.
  static WeightStore open(const std::filesystem::path& path);

  /// A store of one file.
  static WeightStore of(SafetensorsFile file);

  /// Takes the tensors of `base` that are not here. Throws Error(kUser) if one of the two is packed.
  void add_missing(WeightStore base);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }

  /// Whether the tensor is there, if only in packed matrices.
  bool contains(std::string_view name) const;
  /// Its shape, also if it is there only in packed matrices. Throws Error(kUser) if it is missing.
  const std::vector<int64_t>& shape(std::string_view name) const;
  /// The tensor, marked as used. Throws Error(kUser) if it is missing.
  const StoredTensor& get(std::string_view name) const;
  /// The same; null if it is missing.
  const StoredTensor* find(std::string_view name) const;

  /// Null for a stock checkpoint.
  const PackedIndex* packed() const { return packed_ ? &*packed_ : nullptr; }
  /// Null if there is no packed matrix of that name.
  const StoredMatrix* find_matrix(std::string_view name) const;

  /// From now on matrices that are made of this tensor [n, k] are changed as well. Not for packed checkpoints.
  void change(const std::string& tensor, LowRank change);
  /// Empty for most tensors.
  const std::vector<LowRank>& changes(std::string_view tensor) const;

  /// Checks that every tensor is there with this shape and a floating-point dtype (F32, BF16, F16) and, by a sample,
  /// that its values can be weights (tensor_check.h), and marks it as used. Throws one Error(kUser): all missing names
  /// (at most ten, then a count), or the first tensor whose shape or dtype is not as expected, with both shapes and
  /// `config` named as the file that asks for it, or the first with such values.
  void require(const std::vector<ExpectedTensor>& expected, std::string_view config) const;
  /// Names that nobody asked for, in order.
  std::vector<std::string> unused() const;
  /// Calls visit(tensor) for every tensor in the order of their names; not for packed matrices.
  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (const auto& [name, entry] : entries_) visit(tensor_of(entry));
  }
  /// The file with the tensor or, if it went into one, with its packed matrix.
  const std::string& file_of(std::string_view tensor) const;
  /// Gives the tensor's or matrix' pages back to the system.
  void release(const StoredTensor& tensor) const;
  void release(const StoredMatrix& matrix) const;
  /// Sum over all tensors, packed matrices included.
  int64_t total_bytes() const;
  int64_t total_elements() const;

 private:
  struct Entry {
    size_t file = 0;
    size_t tensor = 0;
    mutable bool used = false;
  };
  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::pair<std::string, Entry>> entries_;  // ordered by name
  std::optional<PackedIndex> packed_;
  std::map<std::string, std::vector<LowRank>, std::less<>> changes_;
  const Entry* find_entry(std::string_view name) const;
  const StoredTensor& tensor_of(const Entry& entry) const;
};

}  // namespace heartmula

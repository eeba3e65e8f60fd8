// Matrices as the kernels like them, in memory and in packed checkpoints (docs/packed_checkpoint.md).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/safetensors.h"

namespace heartmula {

/// A packed matrix [n, k] is [panels][groups][panel_width][k_per_group] elements: outputs side by side, of each a few
/// consecutive inputs, zero where there is no output or no input. A gated one is two matrices [n, k]: the first half of
/// each panel is gate, the second up.
struct PackedLayout {
  DType dtype = DType::kF32;  // kF32 or kBF16
  int64_t panel_width = 0;
  int64_t k_per_group = 0;

  bool operator==(const PackedLayout&) const = default;
  int64_t panels(int64_t n, bool gated) const;
  int64_t groups(int64_t k) const;
  int64_t bytes(int64_t n, int64_t k, bool gated) const;
};

/// A packed matrix must begin at a multiple of this, in memory and in a file.
inline constexpr size_t kPackedAlignment = 64;

/// A packed matrix in a mapped file.
struct StoredMatrix {
  std::string name;
  int64_t n = 0;
  int64_t k = 0;
  bool gated = false;
  PackedLayout layout;
  std::span<const std::byte> data;    // aligned
  std::shared_ptr<const void> owner;  // keeps the mapping

  enum class Half { kGate, kUp };
  /// Row `output` as k floats; of a gated matrix, of one of its halves.
  void read_row(int64_t output, float* row, Half half = Half::kGate) const;
};

/// What makes a safetensors file a packed checkpoint: its metadata, all of it checked.
struct PackedIndex {
  struct Matrix {
    std::string name;
    int64_t n = 0;
    int64_t k = 0;
    bool gated = false;
  };

  PackedLayout layout;
  std::string made_by;      // program and device, for messages
  std::string fingerprint;  // of the stock checkpoint (fingerprint.h); empty in a file of an older program
  std::map<std::string, StoredMatrix, std::less<>> matrices;
  std::map<std::string, std::vector<int64_t>, std::less<>> replaced;  // stock tensors that went into them, with shapes

  /// Nothing for a stock file. Throws Error(kUser) for a file that says it is packed and is broken or too new.
  static std::optional<PackedIndex> parse(const SafetensorsFile& file);
  /// Whether a tensor of a packed file is one of its matrices, or a gap before one.
  static bool is_internal(std::string_view tensor);
  static bool is_gap(std::string_view tensor);

  /// The metadata of a file with these matrices.
  static std::map<std::string, std::string> metadata(const PackedLayout& layout, const std::string& made_by,
                                                     const std::vector<Matrix>& matrices,
                                                     const std::map<std::string, std::vector<int64_t>>& replaced,
                                                     const std::string& fingerprint);
  /// The tensor that holds a matrix.
  static TensorEntry entry(const PackedLayout& layout, const Matrix& matrix);
  /// `bytes` of nothing.
  static TensorEntry gap(size_t number, int64_t bytes);
};

}  // namespace heartmula

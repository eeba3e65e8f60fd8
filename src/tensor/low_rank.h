// A low-rank change of a matrix, as LoRA trains it: W + scale * up down.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "tensor/safetensors.h"

namespace heartmula {

/// Of a matrix [n, k]. The factors stay in their file until the matrix is packed.
struct LowRank {
  StoredTensor up;    // [n, rank], LoRA's B
  StoredTensor down;  // [rank, k], LoRA's A
  double scale = 1;
  std::shared_ptr<const SafetensorsFile> file;  // that they are in

  int64_t rank() const { return down.shape[0]; }
};

/// Adds all changes of a matrix to its rows. The sum of them is float64 and is rounded once, with the row, so that
/// their order matters no more than that rounding.
class RowChanges {
 public:
  /// `changes` must outlive it.
  explicit RowChanges(const std::vector<LowRank>& changes) : changes_(changes) {}

  /// row [k] += row `output` of the changes. May be called from several threads at once.
  void add_to(int64_t output, float* row, int64_t k) const;
  /// What the factors take in memory from the first row on.
  static int64_t bytes(const std::vector<LowRank>& changes);

 private:
  struct Factors {
    std::vector<double> up;  // with the scale
    std::vector<double> down;
  };
  void read_factors() const;

  const std::vector<LowRank>& changes_;
  mutable std::once_flag read_;
  mutable std::vector<Factors> factors_;
};

}  // namespace heartmula

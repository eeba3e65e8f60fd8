// From stored tensors to packed matrices on a device, one tensor at a time, so that never two whole copies exist; from
// a packed checkpoint, matrices where they lie.
#pragma once

#include <string>
#include <vector>

#include "ops/ops.h"
#include "tensor/weight_store.h"

namespace heartmula {

class WeightLoader {
 public:
  /// Matrices are rounded to `dtype`; vectors (norms, biases) are kept in f32. The store's `require` has checked
  /// shapes.
  WeightLoader(Ops& ops, const WeightStore& store, DType dtype) : ops_(ops), store_(store), dtype_(dtype) {}

  /// Any shape, flattened: [1, elements], f32.
  Tensor vector(const std::string& name) const;
  /// The same as [rows, elements / rows].
  Tensor table(const std::string& name, int64_t rows) const;
  /// Matrices [n_i, k] below each other: [sum of n_i, k].
  Matrix matrix(const std::vector<std::string>& names) const;
  /// gate and up [n, k] for Ops::linear_silu_gate.
  Matrix gate_up(const std::string& gate, const std::string& up) const;
  /// Slice `index` of a [count, k, n] tensor, transposed: [n, k].
  Matrix transposed_slice(const std::string& name, int64_t index) const;
  /// A convolution's [n, channels, taps] as [n, taps * channels], taps outermost.
  Matrix conv(const std::string& name, float scale = 1.0f) const;
  /// Of values made by the caller, rounded to the loader's dtype. A packed checkpoint has the matrix by its name and
  /// does not ask for the values.
  Matrix pack(const MatrixSource& source) const;

  /// A tensor [entries, width] that stays where it is; its values are rounded to the loader's dtype when they are read.
  Table rows(const std::string& name) const;

  /// The elements of a tensor as f32, on the host.
  std::vector<float> values(const std::string& name) const;
  Tensor upload(const std::vector<float>& values, int64_t rows) const;

 private:
  MatrixSource stacked(const std::vector<std::string>& names) const;
  void release(const std::vector<std::string>& names) const;

  Ops& ops_;
  const WeightStore& store_;
  DType dtype_;
};

}  // namespace heartmula

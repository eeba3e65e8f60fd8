// Which kernel multiplies what.
#pragma once

#include "cuda/device_state.h"
#include "cuda/kernels/few_product.h"
#include "cuda/kernels/gemm.h"
#include "cuda/many_products.h"
#include "cuda/packing.h"

namespace heartmula::cuda {

class Products {
 public:
  explicit Products(DeviceState& state);

  /// Before the first product with a matrix of `n` outputs, gate and up both counted.
  void prepare(const DeviceMatrix& matrix, int64_t n);
  /// `epilogue` without copy where the weights are the language model's.
  void run(View out, const GemmInput& input, const Matrix& weight, const GemmEpilogue& epilogue);
  /// The norm inside the product where that is as fast.
  void run_normed(View out, const Normed& x, const Matrix& weight, const GemmEpilogue& epilogue);
  void run_residual_unit(View out, View copy, ConstView x, const ResidualUnit& unit);

 private:
  void run_few(View out, ConstView x, const Normed* normed, const Matrix& weight, const GemmEpilogue& epilogue);

  DeviceState& state_;
  ManyProducts many_;
  FewResources resources_;
  int64_t most_outputs_ = 0;
};

}  // namespace heartmula::cuda

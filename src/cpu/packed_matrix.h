// Weights in the layout of the kernels: [panels][words][panel width], zero padded.
#pragma once

#include "cpu/device.h"
#include "ops/ops.h"

namespace heartmula::cpu {

struct PackedMatrix : Matrix::Storage {
  std::shared_ptr<const void> words;
  int64_t panels = 0;
  bool gated = false;  // half of each panel's lanes gate, half up
};

PackedLayout packed_layout(const Kernels& kernels, DType dtype);

Matrix pack(Device& device, const MatrixSource& source, DType dtype);
Matrix pack_gate_up(Device& device, const MatrixSource& gate, const MatrixSource& up, DType dtype);
/// `stored` has the layout of `device`.
Matrix adopt(Device& device, const StoredMatrix& stored);

}  // namespace heartmula::cpu

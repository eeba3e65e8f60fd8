// The operations on NVIDIA GPUs.
#pragma once

#include <cstdint>
#include <memory>

#include "ops/ops.h"

namespace heartmula {

struct CudaOptions {
  /// What products are made for, which decides how weights lie: kFew streams them past a few rows (the language
  /// model), kMany multiplies hundreds of rows at a time (the codec).
  enum class Rows : uint8_t { kFew, kMany };

  int device = 0;
  Rows rows = Rows::kFew;
  bool background = false;  // its work gives way to other work on the same device
};

/// Throws Error(kUser) with what to do if this program or this machine has no such device (cuda/devices.h).
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options);

}  // namespace heartmula

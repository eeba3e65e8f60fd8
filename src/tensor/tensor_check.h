// Weights that cannot be right: a download with its size but not its data, a training run that failed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/dtype.h"

namespace heartmula {

/// Whether all of `values` are finite numbers.
bool all_finite(std::span<const float> values);

/// Throws Error(kUser) about a tensor, or several of which it is one, with a value that is not a finite number.
[[noreturn]] void refuse_not_finite(std::string_view tensors, std::string_view file);

/// Looks at a sample of a large tensor's values (F32, BF16, F16) and at all of a small one's. Throws Error(kUser) with
/// file and tensor if one is not a finite number, or if, unless `may_be_zero`, all of the tensor is zero.
void check_values(std::span<const std::byte> data, DType dtype, bool may_be_zero, std::string_view tensor,
                  std::string_view file);

}  // namespace heartmula

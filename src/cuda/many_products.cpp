#include "cuda/many_products.h"

#include "cuda/kernels/add_scaled.h"
#include "cuda/kernels/gate.h"
#include "cuda/runtime.h"

namespace heartmula::cuda {
namespace {

/// Below this a kernel's start costs more than its sums.
constexpr int64_t kLeastWidth = 256;
/// Rows of scratch begin at multiples of so many bytes.
constexpr int64_t kAlignment = 16;

}  // namespace

void ManyProducts::multiply(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                            const GemmEpilogue& epilogue) {
  if (!by_library(stream, out, input, weight, epilogue)) gemm(stream, out, input, weight, epilogue, limits_);
}

// The library has no epilogue for a gate, nor (tried on an H200) for a gain of each output of bf16: its sums, which the
// second cache holds in part, are finished after it. Those of a gate are rounded as its product will be.
bool ManyProducts::by_library(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                              const GemmEpilogue& e) {
  if (library_ == nullptr || out.rows == 0 || weight.dtype != DType::kBF16 || input.taps != 1) return false;
  if (weight.n < kLeastWidth || weight.k < kLeastWidth) return false;
  if (e.has_prelu || e.copy.data != nullptr) return false;
  if (!e.gate && !e.add && e.gain == nullptr) return library_->multiply(stream, out, input.x, weight, e.bias);
  if (e.bias != nullptr) return false;
  if (!e.gate && (!e.add || out.dtype != DType::kF32)) return false;
  if (out.stride * static_cast<int64_t>(dtype_size(out.dtype)) % kAlignment != 0 ||
      reinterpret_cast<uintptr_t>(out.data) % kAlignment != 0) {
    return false;
  }
  const View sums = scratch_for(e.gate ? out.dtype : DType::kF32, out.rows, weight.n);
  if (!library_->multiply(stream, sums, input.x, weight)) return false;
  if (e.gate) {
    gate(stream, out, sums);
  } else {
    add_scaled(stream, out, sums, e.gain);
  }
  return true;
}

View ManyProducts::scratch_for(DType dtype, int64_t rows, int64_t cols) {
  const auto size = static_cast<int64_t>(dtype_size(dtype));
  const int64_t together = kAlignment / size;
  const int64_t stride = (cols + together - 1) / together * together;
  const int64_t bytes = rows * stride * size;
  if (bytes > scratch_bytes_) {
    scratch_ = nullptr;
    scratch_ = allocate_device(static_cast<size_t>(bytes));
    scratch_bytes_ = bytes;
  }
  return {scratch_.get(), dtype, rows, cols, stride};
}

}  // namespace heartmula::cuda

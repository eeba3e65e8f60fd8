#include "cuda/many_products.h"

#include "cuda/kernels/add_scaled.h"
#include "cuda/kernels/gate.h"
#include "cuda/runtime.h"

namespace heartmula::cuda {
namespace {

/// Below this a kernel's start costs more than its sums.
constexpr int64_t kLeastWidth = 256;
constexpr int64_t kFloats = 4;  // of 16 bytes

}  // namespace

void ManyProducts::multiply(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                            const GemmEpilogue& epilogue) {
  if (!by_library(stream, out, input, weight, epilogue)) gemm(stream, out, input, weight, epilogue, limits_);
}

// The library has no epilogue for a gate or for a gain of each output: its sums, which the second cache holds in part,
// are finished after it.
bool ManyProducts::by_library(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                              const GemmEpilogue& e) {
  if (library_ == nullptr || out.rows == 0 || weight.dtype != DType::kBF16 || input.taps != 1) return false;
  if (weight.n < kLeastWidth || weight.k < kLeastWidth) return false;
  if (e.has_prelu || e.copy.data != nullptr) return false;
  if (!e.gate && !e.add && e.gain == nullptr) return library_->multiply(stream, out, input.x, weight, e.bias);
  if (e.bias != nullptr) return false;
  if (!e.gate && (!e.add || out.dtype != DType::kF32)) return false;
  const int64_t together = e.gate && out.dtype == DType::kBF16 ? 2 : kFloats;
  if (out.stride % together != 0 || reinterpret_cast<uintptr_t>(out.data) % 16 != 0) return false;

  const View sums = scratch_for(out.rows, weight.n);
  if (!library_->multiply(stream, sums, input.x, weight)) return false;
  if (e.gate) {
    gate(stream, out, sums);
  } else {
    add_scaled(stream, out, sums, e.gain);
  }
  return true;
}

View ManyProducts::scratch_for(int64_t rows, int64_t cols) {
  const int64_t stride = (cols + kFloats - 1) / kFloats * kFloats;
  const int64_t bytes = rows * stride * static_cast<int64_t>(sizeof(float));
  if (bytes > scratch_bytes_) {
    scratch_ = nullptr;
    scratch_ = allocate_device(static_cast<size_t>(bytes));
    scratch_bytes_ = bytes;
  }
  return {scratch_.get(), DType::kF32, rows, cols, stride};
}

}  // namespace heartmula::cuda

#include "cuda/many_products.h"

#include "cuda/kernels/add_scaled.h"
#include "cuda/runtime.h"

namespace heartmula::cuda {
namespace {

/// Below this a kernel's start costs more than its sums.
constexpr int64_t kLeastWidth = 256;
constexpr int64_t kFloats = 4;  // of 16 bytes

}  // namespace

void ManyProducts::multiply(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                            const GemmEpilogue& epilogue) {
  if (!by_library(stream, out, input, weight, epilogue)) gemm(stream, out, input, weight, epilogue);
}

// A gate stays with gemm, which spares its sums the way through memory.
bool ManyProducts::by_library(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight,
                              const GemmEpilogue& e) {
  if (library_ == nullptr || out.rows == 0 || weight.dtype != DType::kBF16 || input.taps != 1) return false;
  if (weight.n < kLeastWidth || weight.k < kLeastWidth) return false;
  if (e.gate || e.has_prelu || e.copy.data != nullptr) return false;
  if (!e.add && e.gain == nullptr) return library_->multiply(stream, out, input.x, weight, e.bias);
  if (!e.add || e.bias != nullptr || out.dtype != DType::kF32) return false;
  if (out.stride % kFloats != 0 || reinterpret_cast<uintptr_t>(out.data) % 16 != 0) return false;

  // The library has no epilogue for a gain of each output: the sums, which the second cache holds, are added after it.
  const int64_t stride = (weight.n + kFloats - 1) / kFloats * kFloats;
  const int64_t bytes = out.rows * stride * static_cast<int64_t>(sizeof(float));
  if (bytes > scratch_bytes_) {
    scratch_ = nullptr;
    scratch_ = allocate_device(static_cast<size_t>(bytes));
    scratch_bytes_ = bytes;
  }
  const View sums = {scratch_.get(), DType::kF32, out.rows, weight.n, stride};
  if (!library_->multiply(stream, sums, input.x, weight)) return false;
  add_scaled(stream, out, sums, e.gain);
  return true;
}

}  // namespace heartmula::cuda

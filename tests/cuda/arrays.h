// Matrices in device memory, for tests of single kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/testing.h"
#include "cuda/runtime.h"

namespace heartmula::testing_cuda {

using oracle::Array;
using testing_cpu::expect_near;
using testing_cpu::half_ulp;
using testing_cpu::random_array;
using testing_cpu::rounded;

/// How a matrix stands in its memory: between columns of NaN, in rows that begin at multiples of `alignment` elements,
/// counted from `first_col`.
struct Placement {
  int64_t first_col = 0;
  int64_t more_cols = 0;
  int64_t alignment = 16;
};
constexpr Placement kAligned = {.first_col = 16, .more_cols = 3, .alignment = 16};
constexpr Placement kOdd = {.first_col = 1, .more_cols = 2, .alignment = 1};

/// A matrix on the device that lives as long as this.
class DeviceArray {
 public:
  DeviceArray(const Array& x, DType dtype, const Placement& place = kAligned)
      : stride_((place.first_col + x.cols + place.more_cols + place.alignment - 1) / place.alignment * place.alignment),
        values_(static_cast<size_t>(x.rows * stride_), std::numeric_limits<float>::quiet_NaN()),
        memory_(cuda::allocate_device(bytes(dtype))),
        view_(View{memory_.get(), dtype, x.rows, stride_, stride_}.slice_cols(place.first_col, x.cols)) {
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = 0; c < x.cols; ++c) {
        values_[static_cast<size_t>(r * stride_ + place.first_col + c)] = static_cast<float>(x.at(r, c));
      }
    }
    write(dtype);
  }
  /// Uninitialised.
  DeviceArray(int64_t rows, int64_t cols, DType dtype, const Placement& place = kAligned)
      : DeviceArray(nan_array(rows, cols), dtype, place) {}

  operator View() const { return view_; }       // NOLINT(google-explicit-constructor)
  operator ConstView() const { return view_; }  // NOLINT(google-explicit-constructor)
  const float* floats() const { return static_cast<const float*>(view_.data); }

  /// After everything that was started.
  Array read() const {
    cuda::check(cudaDeviceSynchronize(), "waiting for a kernel");
    const size_t size = dtype_size(view_.dtype);
    const size_t row_bytes = static_cast<size_t>(view_.stride) * size;
    std::vector<unsigned char> raw(row_bytes * static_cast<size_t>(view_.rows));
    cuda::check(cudaMemcpy(raw.data(), memory_.get(), raw.size(), cudaMemcpyDeviceToHost), "reading");
    const auto offset = static_cast<size_t>(static_cast<const unsigned char*>(view_.data) -
                                            static_cast<const unsigned char*>(memory_.get()));
    Array out(view_.rows, view_.cols);
    for (int64_t r = 0; r < out.rows; ++r) {
      for (int64_t c = 0; c < out.cols; ++c) {
        out.at(r, c) = load_as_f32(raw.data() + static_cast<size_t>(r) * row_bytes + offset, view_.dtype, c);
      }
    }
    return out;
  }

 private:
  static Array nan_array(int64_t rows, int64_t cols) {
    Array x(rows, cols);
    std::fill(x.values.begin(), x.values.end(), std::numeric_limits<double>::quiet_NaN());
    return x;
  }
  size_t bytes(DType dtype) const { return values_.size() * dtype_size(dtype); }
  void write(DType dtype) const {
    std::vector<uint16_t> halves;
    for (const float value : values_) halves.push_back(f32_to_bf16(value));
    const void* from = dtype == DType::kBF16 ? static_cast<const void*>(halves.data()) : values_.data();
    cuda::check(cudaMemcpy(memory_.get(), from, bytes(dtype), cudaMemcpyHostToDevice), "writing");
  }

  int64_t stride_;
  std::vector<float> values_;
  std::shared_ptr<void> memory_;
  View view_;
};

inline std::string dtype_test_name(const testing::TestParamInfo<DType>& info) {
  return std::string(dtype_name(info.param));
}

/// Rows [first, first + count).
inline Array rows_of(const Array& x, int64_t first, int64_t count) {
  Array out(count, x.cols);
  std::copy_n(x.values.begin() + first * x.cols, count * x.cols, out.values.begin());
  return out;
}

}  // namespace heartmula::testing_cuda

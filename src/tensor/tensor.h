// Matrices of activations: who owns them (Tensor) and who looks at them (View, ConstView).
//
// Everything is two-dimensional and row-major: [rows, cols], time first, channels last. A view's rows may lie further
// apart than its columns are many (`stride`). The data may live on a device: only Ops reads or writes it.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "tensor/dtype.h"

namespace heartmula {

namespace detail {
template <typename Byte, typename Void>
struct BasicView {
  Void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements from one row to the next

  /// Rows [first, first + count).
  BasicView slice_rows(int64_t first, int64_t count) const { return at(first, 0, count, cols, stride); }
  /// Columns [first, first + count).
  BasicView slice_cols(int64_t first, int64_t count) const { return at(0, first, rows, count, stride); }
  /// Rows first, first + step, first + 2 step, ...: `count` of them.
  BasicView every(int64_t first, int64_t step, int64_t count) const { return at(first, 0, count, cols, step * stride); }
  /// The same elements as [rows * factor, cols / factor]; needs rows without gaps.
  BasicView split_rows(int64_t factor) const { return {data, dtype, rows * factor, cols / factor, cols / factor}; }

 private:
  BasicView at(int64_t row, int64_t col, int64_t new_rows, int64_t new_cols, int64_t new_stride) const {
    const int64_t offset = (row * stride + col) * static_cast<int64_t>(dtype_size(dtype));
    return {static_cast<Byte*>(data) + offset, dtype, new_rows, new_cols, new_stride};
  }
};
}  // namespace detail

using View = detail::BasicView<std::byte, void>;

struct ConstView : detail::BasicView<const std::byte, const void> {
  using Base = detail::BasicView<const std::byte, const void>;
  ConstView() = default;
  ConstView(const Base& base) : Base(base) {}  // NOLINT(google-explicit-constructor): a view of a view
  ConstView(const View& view)                  // NOLINT(google-explicit-constructor): may be read, too
      : Base{view.data, view.dtype, view.rows, view.cols, view.stride} {}
  ConstView(const void* d, DType t, int64_t r, int64_t c, int64_t s) : Base{d, t, r, c, s} {}
};

/// The values of a view of f32, or null for an empty one.
inline const float* floats_of(const ConstView& x) {
  return static_cast<const float*>(x.data);
}

/// Owns one matrix on the device of the Ops that made it (Ops::allocate).
class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<void> storage, DType dtype, int64_t rows, int64_t cols, int64_t stride)
      : storage_(std::move(storage)), view_{storage_.get(), dtype, rows, cols, stride} {}

  View view() const { return view_; }
  View slice_rows(int64_t first, int64_t count) const { return view_.slice_rows(first, count); }
  View slice_cols(int64_t first, int64_t count) const { return view_.slice_cols(first, count); }
  int64_t rows() const { return view_.rows; }
  int64_t cols() const { return view_.cols; }
  DType dtype() const { return view_.dtype; }
  operator View() const { return view_; }       // NOLINT(google-explicit-constructor)
  operator ConstView() const { return view_; }  // NOLINT(google-explicit-constructor)

 private:
  std::shared_ptr<void> storage_;
  View view_;
};

}  // namespace heartmula

#include "cuda/kernels/attend_all.h"

#include <numeric>

#include "cuda/arrays.h"

namespace heartmula::testing_cuda {
namespace {

struct Shape {
  int64_t rows, heads, head_dim;
};
// Every padded head and one that is none, one key, whole steps of 64 keys, one more and one fewer.
constexpr Shape kShapes[] = {{1, 2, 16}, {63, 3, 2}, {64, 2, 32}, {65, 3, 24}, {130, 2, 64}, {100, 1, 128}};

/// Queries, keys and values beside each other, as a product leaves them, and a rotation that is none of positions'.
struct Operands {
  explicit Operands(const Shape& s, const Placement& place = kOdd)
      : shape(s),
        qkv(random_array(s.rows, 3 * s.heads * s.head_dim, 1)),
        cos(random_array(s.rows, s.head_dim / 2, 2)),
        sin(random_array(s.rows, s.head_dim / 2, 3)),
        device_qkv(qkv, DType::kF32, place),
        device_cos(cos, DType::kF32, place),
        device_sin(sin, DType::kF32) {}

  int64_t width() const { return shape.heads * shape.head_dim; }
  Array part(int64_t index) const {
    Array out(shape.rows, width());
    for (int64_t r = 0; r < out.rows; ++r) {
      for (int64_t c = 0; c < out.cols; ++c) out.at(r, c) = qkv.at(r, index * width() + c);
    }
    return out;
  }
  Array rotated_part(int64_t index, DType dtype) const {
    std::vector<int32_t> positions(static_cast<size_t>(shape.rows));
    std::iota(positions.begin(), positions.end(), 0);
    return rounded(oracle::rotated(part(index), cos, sin, positions), dtype);
  }
  ConstView device_part(int64_t index) const { return ConstView(device_qkv).slice_cols(index * width(), width()); }

  /// Of `queries` rows of the windows that `keys` rows hold, counted from row `first`.
  Array attend(int64_t first, int64_t queries, int64_t keys, int64_t windows, DType dtype,
               const Placement& place = kAligned) const {
    const int64_t bytes = cuda::attend_all_scratch_bytes(dtype, keys / windows, shape.heads, shape.head_dim, windows);
    const std::shared_ptr<void> scratch = cuda::allocate_device(static_cast<size_t>(bytes));
    const DeviceArray out(queries, width(), dtype, place);
    cuda::attend_all(nullptr, out, device_part(0).slice_rows(first, queries), device_part(1).slice_rows(first, keys),
                     device_part(2).slice_rows(first, keys), device_cos, device_sin, shape.heads, windows,
                     scratch.get());
    return out.read();
  }
  /// Of the first `count` queries.
  Array attend(int64_t count, DType dtype, const Placement& place = kAligned) const {
    return attend(0, count, shape.rows, 1, dtype, place);
  }

  Shape shape;
  Array qkv, cos, sin;
  DeviceArray device_qkv, device_cos, device_sin;
};

class AttendAll : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Out, AttendAll, testing::Values(DType::kF32, DType::kBF16), dtype_test_name);

TEST_P(AttendAll, agrees_with_float64) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape.rows << " rows, " << shape.heads << " heads of " << shape.head_dim);
    const Operands o(shape);
    const Array q = o.rotated_part(0, GetParam());
    const Array k = o.rotated_part(1, GetParam());
    const Array v = rounded(o.part(2), GetParam());
    const std::vector<int64_t> counts(static_cast<size_t>(shape.rows), shape.rows);
    const Array want = oracle::attention(q, k, v, shape.heads, shape.heads, counts);
    const Array bound = oracle::attention(q, k, oracle::absolute(v), shape.heads, shape.heads, counts);
    // The weights' own rounding, or that of scores of up to some hundreds.
    const double error = GetParam() == DType::kBF16 ? 0x1p-7 : 4e-5;
    for (const Placement& place : {kAligned, kOdd}) {
      expect_near(o.attend(shape.rows, GetParam(), place), want, bound, half_ulp(GetParam()), error);
    }
  }
}

TEST_P(AttendAll, bits_of_a_row_do_not_depend_on_the_number_of_queries) {
  const Operands o({130, 2, 32});
  const Array all = o.attend(130, GetParam());
  for (const int64_t count : {1, 64, 77}) {
    EXPECT_EQ(o.attend(count, GetParam()).values, rows_of(all, 0, count).values);
  }
}

TEST_P(AttendAll, windows_attend_to_themselves) {
  constexpr int64_t kWindows = 3;
  for (const int64_t rows : {33, 64, 70}) {
    const Operands o({kWindows * rows, 2, rows == 64 ? 64 : 24});
    const Array all = o.attend(0, kWindows * rows, kWindows * rows, kWindows, GetParam());
    for (int64_t window = 0; window < kWindows; ++window) {
      const Array one = o.attend(window * rows, rows, rows, 1, GetParam());
      EXPECT_EQ(rows_of(all, window * rows, rows).values, one.values) << "window " << window;
    }
  }
}

TEST_P(AttendAll, bits_do_not_depend_on_where_the_input_stands) {
  for (const Shape& shape : {Shape{70, 3, 24}, Shape{65, 2, 64}}) {
    EXPECT_EQ(Operands(shape, kAligned).attend(shape.rows, GetParam()).values,
              Operands(shape, kOdd).attend(shape.rows, GetParam()).values);
  }
}

}  // namespace
}  // namespace heartmula::testing_cuda

// Random matrices on an Ops, and the comparisons that every test of the CPU makes.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpu/cpu_ops.h"
#include "reference/oracle.h"

namespace heartmula::testing_cpu {

using oracle::Array;

inline std::unique_ptr<Ops> ops_for(const std::string& isa, int threads = 2) {
  return make_cpu_ops({.threads = threads, .isa = isa});
}

/// Normal values whose magnitudes differ from column to column, so that the order of a sum shows in its bits.
inline Array random_array(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  Array x(rows, cols);
  for (double& v : x.values)
    v = static_cast<float>(normal(generator) * std::exp2(static_cast<int>(generator() % 9) - 6));
  return x;
}

inline Array rounded(Array x, DType dtype) {
  for (double& v : x.values) {
    if (dtype == DType::kBF16) v = bf16_to_f32(f32_to_bf16(static_cast<float>(v)));
  }
  return x;
}

inline std::vector<float> floats(const Array& x) {
  return {x.values.begin(), x.values.end()};
}

/// `x` as columns [first_col, first_col + x.cols) of a wider tensor whose other elements are NaN.
inline View place(Ops& ops, const Array& x, DType dtype, int64_t first_col = 0, int64_t more_cols = 0) {
  static std::vector<Tensor> keep;  // a test's tensors live as long as the program
  const int64_t cols = first_col + x.cols + more_cols;
  keep.push_back(ops.allocate(dtype, x.rows, cols));
  const View all = keep.back();
  ops.upload(all, std::vector<float>(static_cast<size_t>(x.rows * cols), std::numeric_limits<float>::quiet_NaN()));
  const View view = all.slice_cols(first_col, x.cols);
  ops.upload(view, floats(x));
  return view;
}

inline std::vector<float> read(Ops& ops, ConstView x) {
  std::vector<float> values(static_cast<size_t>(x.rows * x.cols));
  ops.download(values, x);
  return values;
}

inline Array read_array(Ops& ops, ConstView x) {
  Array out(x.rows, x.cols);
  const std::vector<float> values = read(ops, x);
  std::copy(values.begin(), values.end(), out.values.begin());
  return out;
}

inline MatrixSource source(const Array& w) {
  return {w.rows, w.cols, [&w](int64_t output, float* row) {
            for (int64_t k = 0; k < w.cols; ++k) row[k] = static_cast<float>(w.at(output, k));
          }};
}

/// |got - want| <= relative * |want| + absolute * bound, element by element.
inline void expect_near(const Array& got, const Array& want, const Array& bound, double relative, double absolute) {
  ASSERT_EQ(got.rows, want.rows);
  ASSERT_EQ(got.cols, want.cols);
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t c = 0; c < got.cols; ++c) {
      const double limit = relative * std::fabs(want.at(r, c)) + absolute * bound.at(r, c);
      ASSERT_LE(std::fabs(got.at(r, c) - want.at(r, c)), limit)  // false for NaN
          << "row " << r << ", column " << c << ": " << got.at(r, c) << " instead of " << want.at(r, c);
    }
  }
}

/// The rounding error of storing in `dtype`, relative.
inline double half_ulp(DType dtype) {
  return dtype == DType::kBF16 ? 0x1p-8 : 0x1p-23;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class EveryIsa : public testing::TestWithParam<std::string> {};

inline std::string isa_name(const testing::TestParamInfo<std::string>& info) {
  return info.param;
}

}  // namespace heartmula::testing_cpu

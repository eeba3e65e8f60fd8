#include "cuda/kernels/gemm.h"

#include "cuda/arrays.h"

namespace heartmula::testing_cuda {
namespace {

using cuda::GemmEpilogue;
using cuda::GemmWeight;
using cuda::GpuLimits;

// Tiles are chosen as on a GPU with these limits, so far as this one has the memory.
GpuLimits here(int multiprocessors, int shared_bytes) {
  return {multiprocessors, std::min(shared_bytes, cuda::gpu_limits().shared_bytes)};
}
GpuLimits large() {
  return here(132, 227 << 10);
}
// 192 rows of 192 outputs go, one after the other, through the narrow, the wide and the middle tiles of bf16, and
// through the narrow and the wide tiles of f32.
std::vector<GpuLimits> limits_of_every_tile() {
  return {large(), here(1, 227 << 10), here(4, 150 << 10)};
}

struct Case {
  int64_t rows, channels, taps, dilation, n;
  Placement input = kAligned;
  Placement output = kAligned;
};
// Aligned and not, whole tiles and parts of one, sums of one step and of several.
const Case kCases[] = {
    {1, 1, 1, 1, 1, kOdd, kOdd},
    {3, 37, 1, 1, 7, kOdd, kOdd},
    {33, 2, 3, 2, 6, kOdd, kAligned},
    {70, 8, 7, 9, 40, kAligned, kOdd},
    {128, 64, 1, 1, 64},
    {130, 24, 3, 1, 68},
    {200, 16, 7, 3, 132},
    {65, 200, 1, 1, 130, kAligned, kOdd},
    {5, 264, 2, 1, 196},
};

/// A product's operands; W padded with zeros as weights are.
struct Operands {
  Operands(const Case& c, DType weights)
      : dtype(weights),
        x(rounded(random_array(c.rows + (c.taps - 1) * c.dilation, c.channels, 1), dtype)),
        w(rounded(random_array(c.n, c.taps * c.channels, 2), dtype)),
        bias(random_array(1, c.n, 3)),
        gain(random_array(1, c.n, 4)),
        before(random_array(c.rows, c.n, 5)),
        sum(oracle::conv1d(x, w, c.taps, c.dilation)),
        bound(oracle::conv1d(oracle::absolute(x), oracle::absolute(w), c.taps, c.dilation)),
        device_x(x, dtype, c.input),
        device_w(padded(w), dtype, {}),
        device_bias(bias, DType::kF32),
        device_gain(gain, DType::kF32),
        input{device_x, c.taps, c.dilation},
        weight{View(device_w).data, dtype, c.n, w.cols, View(device_w).stride} {}

  static Array padded(const Array& w) {
    Array out(w.rows, (w.cols + 7) / 8 * 8);
    for (int64_t r = 0; r < w.rows; ++r) {
      for (int64_t k = 0; k < w.cols; ++k) out.at(r, k) = w.at(r, k);
    }
    return out;
  }
  /// Of the rounding errors: half an ulp of a sum of absolute values for each addition. Tensor cores cut off instead.
  double error() const { return static_cast<double>(w.cols + 8) * (dtype == DType::kBF16 ? 0x1p-22 : 0x1p-23); }

  DType dtype;
  Array x, w, bias, gain, before, sum, bound;
  DeviceArray device_x, device_w, device_bias, device_gain;
  cuda::GemmInput input;
  GemmWeight weight;
};

class Gemm : public testing::TestWithParam<DType> {
 protected:
  template <typename Body>
  void for_each_case(const Body& body) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(testing::Message() << c.rows << " rows of " << c.taps << " x " << c.channels << " to " << c.n);
      body(c, Operands(c, GetParam()));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Weights, Gemm, testing::Values(DType::kF32, DType::kBF16), dtype_test_name);

TEST_P(Gemm, sums_agree_with_float64) {
  for_each_case([](const Case& c, const Operands& o) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const DeviceArray out(c.rows, c.n, dtype, c.output);
      gemm(nullptr, out, o.input, o.weight, {}, large());
      expect_near(out.read(), o.sum, o.bound, half_ulp(dtype), o.error());
    }
  });
}

TEST_P(Gemm, bias_and_prelu_agree_with_float64) {
  for_each_case([](const Case& c, const Operands& o) {
    const DeviceArray out(c.rows, c.n, DType::kBF16, c.output);
    gemm(nullptr, out, o.input, o.weight, {.bias = o.device_bias.floats(), .has_prelu = true, .prelu = 0.25F}, large());
    Array want = o.sum;
    Array bound = o.bound;
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t n = 0; n < c.n; ++n) {
        const double biased = want.at(r, n) + o.bias.at(0, n);
        want.at(r, n) = biased < 0 ? biased * 0.25 : biased;
        bound.at(r, n) += std::fabs(o.bias.at(0, n));
      }
    }
    expect_near(out.read(), want, bound, half_ulp(DType::kBF16), o.error());
  });
}

TEST_P(Gemm, gain_addition_and_copy_agree_with_float64) {
  for_each_case([](const Case& c, const Operands& o) {
    const DeviceArray out(o.before, DType::kF32, c.output);
    const DeviceArray copy(c.rows, c.n, DType::kBF16, c.output);
    gemm(nullptr, out, o.input, o.weight, {.gain = o.device_gain.floats(), .add = true, .copy = copy}, large());
    Array want = o.before;
    Array bound = o.bound;
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t n = 0; n < c.n; ++n) {
        want.at(r, n) += o.gain.at(0, n) * o.sum.at(r, n);
        bound.at(r, n) = std::fabs(o.before.at(r, n)) + (1 + std::fabs(o.gain.at(0, n))) * o.bound.at(r, n);
      }
    }
    const Array got = out.read();
    expect_near(got, want, bound, 0x1p-23, o.error());
    EXPECT_EQ(copy.read().values, rounded(got, DType::kBF16).values);
  });
}

TEST_P(Gemm, gate_agrees_with_float64) {
  for_each_case([](const Case& c, const Operands& o) {
    if (c.n % 2 != 0) return;
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const DeviceArray out(c.rows, c.n / 2, dtype, c.output);
      gemm(nullptr, out, o.input, o.weight, {.gate = true}, large());
      Array want(c.rows, c.n / 2);
      Array bound(c.rows, c.n / 2);
      for (int64_t r = 0; r < c.rows; ++r) {
        for (int64_t n = 0; n < want.cols; ++n) {
          const double gate = oracle::silu(o.sum.at(r, 2 * n));
          const double up = o.sum.at(r, 2 * n + 1);
          want.at(r, n) = gate * up;
          bound.at(r, n) =
              1.1 * o.bound.at(r, 2 * n) * std::fabs(up) + std::fabs(gate) * o.bound.at(r, 2 * n + 1) + 0x1p-20;
        }
      }
      expect_near(out.read(), want, bound, half_ulp(dtype) + 0x1p-21, o.error());
    }
  });
}

TEST_P(Gemm, bits_of_a_row_depend_on_nothing_else) {
  const Case c = {192, 24, 7, 3, 192};
  const Operands o(c, GetParam());
  const DeviceArray all(c.rows, c.n, DType::kF32);
  gemm(nullptr, all, o.input, o.weight, {}, large());
  const Array want = all.read();
  const DeviceArray odd_x(o.x, o.dtype, kOdd);
  for (const GpuLimits& limits : limits_of_every_tile()) {
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 192}, {37, 1}, {1, 129}, {120, 72}}) {
      SCOPED_TRACE(testing::Message() << "rows " << first << " to " << first + count << " on " << limits.multiprocessors
                                      << " multiprocessors");
      const int64_t input_rows = count + (c.taps - 1) * c.dilation;
      for (const ConstView x : {ConstView(o.device_x), ConstView(odd_x)}) {
        const DeviceArray out(count, c.n, DType::kF32, kOdd);
        gemm(nullptr, out, {x.slice_rows(first, input_rows), c.taps, c.dilation}, o.weight, {}, limits);
        EXPECT_EQ(out.read().values, rows_of(want, first, count).values);
      }
    }
  }
}

TEST_P(Gemm, columns_keep_their_bits_among_others) {
  const Case c = {130, 72, 1, 1, 200};
  const Operands o(c, GetParam());
  const DeviceArray all(c.rows, c.n, DType::kF32);
  gemm(nullptr, all, o.input, o.weight, {}, large());
  GemmWeight weight = o.weight;
  weight.n = 61;
  const DeviceArray some(c.rows, weight.n, DType::kF32);
  gemm(nullptr, some, o.input, weight, {}, large());
  const Array want = all.read();
  const Array got = some.read();
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t n = 0; n < weight.n; ++n) ASSERT_EQ(got.at(r, n), want.at(r, n));
  }
}

// Channels of the one kernel in bf16 and others, whole blocks and parts, rows of several.
TEST_P(Gemm, residual_unit_is_two_products) {
  for (const Case& c : {Case{140, 64, 7, 3, 64}, Case{300, 64, 7, 9, 64}, Case{130, 128, 7, 9, 128},
                        Case{9, 128, 3, 1, 128, kAligned, kOdd}, Case{20, 32, 7, 1, 32}}) {
    SCOPED_TRACE(testing::Message() << c.rows << " rows of " << c.channels << " channels");
    const Operands first(c, GetParam());
    const Operands second({c.rows, c.n, 1, 1, c.n}, GetParam());
    const DeviceArray out(second.before, DType::kF32, c.output);
    const DeviceArray copy(c.rows, c.n, DType::kBF16, c.output);
    const DeviceArray between(c.rows, c.n, GetParam());
    cuda::residual_unit_gemm(nullptr, out, copy,
                             {first.input, first.weight, first.device_bias.floats(), 0.25F, second.weight,
                              second.device_bias.floats(), -0.5F},
                             between);

    const DeviceArray middle(c.rows, c.n, GetParam());
    const DeviceArray want(second.before, DType::kF32);
    gemm(nullptr, middle, first.input, first.weight,
         {.bias = first.device_bias.floats(), .has_prelu = true, .prelu = 0.25F}, large());
    gemm(nullptr, want, {ConstView(middle)}, second.weight,
         {.bias = second.device_bias.floats(), .has_prelu = true, .prelu = -0.5F, .add = true}, large());
    EXPECT_EQ(out.read().values, want.read().values);
    EXPECT_EQ(copy.read().values, rounded(want.read(), DType::kBF16).values);
  }
}

}  // namespace
}  // namespace heartmula::testing_cuda

#include "cpu/products.h"

#include <functional>

#include "cpu/testing.h"

namespace heartmula::testing_cpu {
namespace {

INSTANTIATE_TEST_SUITE_P(Products, EveryIsa, testing::ValuesIn(available_isas()), isa_name);

constexpr DType kWeightTypes[] = {DType::kF32, DType::kBF16};

struct Shape {
  int64_t rows, k, n;
};
// Multiples of nothing; beyond one block of k, of rows and of columns; few rows and many.
constexpr Shape kShapes[] = {{1, 37, 1},  {2, 84, 7},   {3, 150, 69}, {5, 1, 105},   {6, 37, 105},
                             {7, 84, 33}, {13, 150, 7}, {33, 37, 69}, {200, 85, 69}, {70, 1700, 300}};

/// A bound of the rounding errors: each of the k additions of the chain by half an ulp of a sum of absolute values.
double chain_error(int64_t k) {
  return static_cast<double>(k + 3) * 0x1p-23;
}

struct Operands {
  Operands(const Shape& shape, DType weight_dtype, uint32_t seed = 1)
      : dtype(weight_dtype),
        x(rounded(random_array(shape.rows, shape.k, seed), dtype)),
        w(rounded(random_array(shape.n, shape.k, seed + 1), dtype)),
        sum(oracle::product(x, w)),
        bound(oracle::product(oracle::absolute(x), oracle::absolute(w))) {}

  DType dtype;
  Array x;
  Array w;
  Array sum;
  Array bound;
};

TEST_P(EveryIsa, linear_agrees_with_float64) {
  const auto ops = ops_for(GetParam());
  for (const DType dtype : kWeightTypes) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " " << shape.rows << " x " << shape.k << " x "
                                      << shape.n);
      Operands o(shape, dtype);
      const Matrix weight = ops->pack(source(o.w), dtype);
      const View x = place(*ops, o.x, dtype, 3, 5);
      const Array bias = random_array(1, shape.n, 9);
      for (const DType out_dtype : {DType::kF32, DType::kBF16}) {
        const View out = place(*ops, Array(shape.rows, shape.n), out_dtype, 1);
        ops->linear(out, x, weight);
        expect_near(read_array(*ops, out), o.sum, o.bound, half_ulp(out_dtype), chain_error(shape.k));
      }
      const View out = place(*ops, Array(shape.rows, shape.n), DType::kF32);
      ops->linear(out, x, weight, place(*ops, bias, DType::kF32));
      for (int64_t r = 0; r < shape.rows; ++r) {
        for (int64_t c = 0; c < shape.n; ++c) {
          o.sum.at(r, c) += bias.at(0, c);
          o.bound.at(r, c) += std::fabs(bias.at(0, c));
        }
      }
      expect_near(read_array(*ops, out), o.sum, o.bound, 0x1p-23, chain_error(shape.k));
    }
  }
}

TEST_P(EveryIsa, linear_add_and_add_scaled_agree_with_float64) {
  const auto ops = ops_for(GetParam());
  for (const DType dtype : kWeightTypes) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " " << shape.rows << " x " << shape.k << " x "
                                      << shape.n);
      const Operands o(shape, dtype);
      const Matrix weight = ops->pack(source(o.w), dtype);
      const View x = place(*ops, o.x, dtype, 1);
      const Array before = random_array(shape.rows, shape.n, 11);
      const Array gain = random_array(1, shape.n, 12);
      Array added = before;
      Array scaled = before;
      Array bound = o.bound;
      for (int64_t r = 0; r < shape.rows; ++r) {
        for (int64_t c = 0; c < shape.n; ++c) {
          added.at(r, c) += o.sum.at(r, c);
          scaled.at(r, c) += gain.at(0, c) * o.sum.at(r, c);
          bound.at(r, c) = (1 + std::fabs(gain.at(0, c))) * o.bound.at(r, c) + std::fabs(before.at(r, c));
        }
      }
      const View out = place(*ops, before, DType::kF32, 2);
      ops->linear_add(out, x, weight);
      expect_near(read_array(*ops, out), added, bound, 0x1p-23, chain_error(shape.k));
      const View out_scaled = place(*ops, before, DType::kF32, 2);
      ops->linear_add_scaled(out_scaled, x, weight, place(*ops, gain, DType::kF32));
      expect_near(read_array(*ops, out_scaled), scaled, bound, 0x1p-23, chain_error(shape.k));
    }
  }
}

TEST_P(EveryIsa, linear_silu_gate_agrees_with_float64) {
  const auto ops = ops_for(GetParam());
  for (const DType dtype : kWeightTypes) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " " << shape.rows << " x " << shape.k << " x "
                                      << shape.n);
      const Operands gate(shape, dtype, 1);
      const Operands up(shape, dtype, 1);
      const Array up_weight = rounded(random_array(shape.n, shape.k, 21), dtype);
      const Array up_sum = oracle::product(gate.x, up_weight);
      const Array up_bound = oracle::product(oracle::absolute(gate.x), oracle::absolute(up_weight));
      const Matrix weight = ops->pack_gate_up(source(gate.w), source(up_weight), dtype);
      EXPECT_EQ(weight.n(), shape.n);
      Array want(shape.rows, shape.n);
      Array bound(shape.rows, shape.n);
      for (size_t i = 0; i < want.values.size(); ++i) {
        want.values[i] = oracle::silu(gate.sum.values[i]) * up_sum.values[i];
        bound.values[i] = 1.1 * gate.bound.values[i] * std::fabs(up_sum.values[i]) +
                          std::fabs(oracle::silu(gate.sum.values[i])) * up_bound.values[i];
      }
      const View x = place(*ops, gate.x, dtype, 0, 1);
      for (const DType out_dtype : {DType::kF32, DType::kBF16}) {
        const View out = place(*ops, Array(shape.rows, shape.n), out_dtype);
        ops->linear_silu_gate(out, x, weight);
        expect_near(read_array(*ops, out), want, bound, 2 * half_ulp(out_dtype) + 0x1p-21, chain_error(shape.k));
      }
    }
  }
}

struct ConvShape {
  int64_t rows, channels, n, taps, dilation;
};
constexpr ConvShape kConvShapes[] = {{5, 3, 7, 7, 1},     {33, 3, 1, 7, 9},   {29, 16, 24, 7, 5},
                                     {70, 37, 69, 2, 1},  {40, 64, 64, 7, 3}, {9, 1, 5, 7, 1},
                                     {31, 700, 33, 3, 2}, {230, 6, 6, 1, 1},  {50, 130, 40, 7, 7}};

TEST_P(EveryIsa, conv1d_agrees_with_float64) {
  const auto ops = ops_for(GetParam());
  for (const DType dtype : kWeightTypes) {
    for (const ConvShape& shape : kConvShapes) {
      SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " rows " << shape.rows << " channels " << shape.channels
                                      << " n " << shape.n << " taps " << shape.taps << " dilation " << shape.dilation);
      const int64_t k = shape.taps * shape.channels;
      const Array x = rounded(random_array(shape.rows + (shape.taps - 1) * shape.dilation, shape.channels, 1), dtype);
      const Array w = rounded(random_array(shape.n, k, 2), dtype);
      const Array sum = oracle::conv1d(x, w, shape.taps, shape.dilation);
      const Array bias = random_array(1, shape.n, 3);
      const Array before = random_array(shape.rows, shape.n, 4);
      const float slope = 0.3125F;
      Array bound = oracle::conv1d(oracle::absolute(x), oracle::absolute(w), shape.taps, shape.dilation);
      Array want = before;
      for (int64_t r = 0; r < shape.rows; ++r) {
        for (int64_t c = 0; c < shape.n; ++c) {
          const double biased = sum.at(r, c) + bias.at(0, c);
          want.at(r, c) += biased < 0 ? double{slope} * biased : biased;
          bound.at(r, c) += std::fabs(bias.at(0, c)) + std::fabs(before.at(r, c));
        }
      }
      const Matrix weight = ops->pack(source(w), dtype);
      const View in = place(*ops, x, dtype, 1, 3);
      const View all = place(*ops, Array(2 * shape.rows, shape.n), DType::kF32);
      const View out = all.every(1, 2, shape.rows);  // one phase of a transposed convolution
      ops->conv1d(out, in, weight, shape.taps, shape.dilation, {});
      expect_near(read_array(*ops, out), sum, bound, 0x1p-23, chain_error(k));
      for (const float untouched : read(*ops, all.every(0, 2, shape.rows))) ASSERT_EQ(untouched, 0.0F);
      ops->upload(out, floats(before));
      ops->conv1d(out, in, weight, shape.taps, shape.dilation,
                  {.bias = place(*ops, bias, DType::kF32), .prelu = &slope, .add = true});
      expect_near(read_array(*ops, out), want, bound, 0x1p-23, chain_error(k));
    }
  }
}

TEST_P(EveryIsa, row_result_does_not_depend_on_batch_or_threads) {
  for (const DType dtype : kWeightTypes) {
    for (const Shape& shape : {Shape{33, 150, 105}, Shape{230, 900, 69}}) {
      const Operands o(shape, dtype);
      std::vector<float> expected;
      for (const int threads : {1, 2, 3, 7}) {
        const auto ops = ops_for(GetParam(), threads);
        const Matrix weight = ops->pack(source(o.w), dtype);
        const View x = place(*ops, o.x, dtype, 1, 1);
        const View out = place(*ops, Array(shape.rows, shape.n), DType::kF32);
        ops->linear(out, x, weight);
        if (threads == 1) expected = read(*ops, out);
        ASSERT_TRUE(same_bits(read(*ops, out), expected)) << threads << " threads";
        for (const int64_t first : {0, 1, 2, 3, 11, 24, 29}) {
          for (const int64_t count : {1, 2, 3, 4, 5, 7, 12, 13, 30}) {
            if (first + count > shape.rows) continue;
            const View part = place(*ops, Array(count, shape.n), DType::kF32, first % 3);
            ops->linear(part, x.slice_rows(first, count), weight);
            const auto begin = expected.begin() + first * shape.n;
            ASSERT_TRUE(same_bits(read(*ops, part), {begin, begin + count * shape.n}))
                << count << " rows from " << first << ", " << threads << " threads, " << dtype_name(dtype);
          }
        }
      }
    }
  }
}

TEST_P(EveryIsa, conv1d_row_does_not_depend_on_its_piece) {
  for (const DType dtype : kWeightTypes) {
    for (const ConvShape& shape : {ConvShape{250, 70, 40, 7, 3}, ConvShape{250, 3, 6, 7, 9}}) {
      const int64_t history = (shape.taps - 1) * shape.dilation;
      const Array signal = rounded(random_array(shape.rows + history, shape.channels, 1), dtype);
      const Array w = random_array(shape.n, shape.taps * shape.channels, 2);
      const auto ops = ops_for(GetParam(), 3);
      const Matrix weight = ops->pack(source(w), dtype);
      const View x = place(*ops, signal, dtype);
      const View whole = place(*ops, Array(shape.rows, shape.n), DType::kF32);
      ops->conv1d(whole, x, weight, shape.taps, shape.dilation, {});
      const View pieces = place(*ops, Array(shape.rows, shape.n), DType::kF32);
      for (int64_t first = 0, count = 1; first < shape.rows; first += count, count += 7) {
        count = std::min(count, shape.rows - first);
        ops->conv1d(pieces.slice_rows(first, count), x.slice_rows(first, count + history), weight, shape.taps,
                    shape.dilation, {});
      }
      ASSERT_TRUE(same_bits(read(*ops, whole), read(*ops, pieces))) << dtype_name(dtype);
    }
  }
}

// Few rows in one tile or several, and many in blocks of k, each with every epilogue.
TEST_P(EveryIsa, every_number_of_rows_gives_the_same_bits) {
  constexpr int64_t kRows = 210, kIn = 1700, kOut = 69;
  const auto ops = ops_for(GetParam(), 3);
  for (const DType dtype : kWeightTypes) {
    const Array x = rounded(random_array(kRows, kIn, 1), dtype);
    const Array w = random_array(kOut, kIn, 2);
    const Array up = random_array(kOut, kIn, 3);
    const Array before = random_array(kRows, kOut, 4);
    const View in = place(*ops, x, dtype);
    const View bias = place(*ops, random_array(1, kOut, 5), DType::kF32);
    const View gain = place(*ops, random_array(1, kOut, 6), DType::kF32);
    const Matrix weight = ops->pack(source(w), dtype);
    const Matrix gate_up = ops->pack_gate_up(source(w), source(up), dtype);
    const float slope = 0.3125F;
    const std::vector<std::function<void(View, ConstView)>> kinds = {
        [&](View out, ConstView rows) { ops->linear(out, rows, weight, bias); },
        [&](View out, ConstView rows) { ops->linear_add_scaled(out, rows, weight, gain); },
        [&](View out, ConstView rows) { ops->linear_silu_gate(out, rows, gate_up); },
        [&](View out, ConstView rows) {
          ops->conv1d(out, rows, weight, 1, 1, {.bias = bias, .prelu = &slope, .add = true});
        }};
    for (size_t kind = 0; kind < kinds.size(); ++kind) {
      const View all = place(*ops, before, DType::kF32);
      kinds[kind](all, in);
      const View out = place(*ops, before, DType::kF32);
      for (int64_t count = 1; count <= 33; ++count) {
        const int64_t first = count * 5;
        const View part = out.slice_rows(first, count);
        ops->upload(out, floats(before));
        kinds[kind](part, in.slice_rows(first, count));
        ASSERT_TRUE(same_bits(read(*ops, part), read(*ops, all.slice_rows(first, count))))
            << count << " rows, " << dtype_name(dtype) << ", epilogue " << kind;
      }
    }
  }
}

// A convolution of few rows, and one whose taps are cut into blocks: whole taps, parts of a tap, odd channels.
TEST_P(EveryIsa, conv1d_of_any_number_of_rows_gives_the_same_bits) {
  for (const DType dtype : kWeightTypes) {
    for (const ConvShape& shape : {ConvShape{100, 256, 40, 7, 3}, ConvShape{100, 1600, 33, 3, 1},
                                   ConvShape{100, 45, 17, 7, 9}, ConvShape{100, 64, 64, 2, 1}}) {
      const int64_t history = (shape.taps - 1) * shape.dilation;
      const Array signal = rounded(random_array(shape.rows + history, shape.channels, 1), dtype);
      const Array w = random_array(shape.n, shape.taps * shape.channels, 2);
      const auto ops = ops_for(GetParam(), 2);
      const Matrix weight = ops->pack(source(w), dtype);
      const View x = place(*ops, signal, dtype, 1, 2);
      const View whole = place(*ops, Array(shape.rows, shape.n), DType::kF32);
      ops->conv1d(whole, x, weight, shape.taps, shape.dilation, {});
      for (const int64_t count : {1, 2, 3, 5, 7, 8, 11, 13, 24, 25, 33, 48, 49, 97}) {
        const View part = place(*ops, Array(count, shape.n), DType::kF32);
        ops->conv1d(part, x.slice_rows(2, count + history), weight, shape.taps, shape.dilation, {});
        ASSERT_TRUE(same_bits(read(*ops, part), read(*ops, whole.slice_rows(2, count))))
            << count << " rows, " << shape.channels << " channels, " << dtype_name(dtype);
      }
    }
  }
}

// As two convolutions, which tests above compare with float64: weights that one thread's cache holds, and such as it
// does not, where the threads meet in between.
TEST_P(EveryIsa, residual_unit_is_two_convolutions) {
  for (const DType dtype : kWeightTypes) {
    for (const ConvShape& shape : {ConvShape{1, 24, 24, 7, 3}, ConvShape{250, 40, 40, 7, 5}, ConvShape{250, 5, 5, 3, 9},
                                   ConvShape{100, 64, 64, 1, 1}, ConvShape{60, 300, 300, 7, 2}}) {
      const int64_t n = shape.n;
      const Array signal = random_array(shape.rows + (shape.taps - 1) * shape.dilation, n, 1);
      const Array w1 = random_array(n, shape.taps * n, 2);
      const Array w2 = random_array(n, n, 3);
      const Array before = random_array(shape.rows, n, 4);
      for (const int threads : {1, 3}) {
        SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " rows " << shape.rows << " channels " << n << " taps "
                                        << shape.taps << " threads " << threads);
        const auto ops = ops_for(GetParam(), threads);
        ResidualUnit unit{.conv1 = ops->pack(source(w1), dtype),
                          .bias1 = ops->allocate(DType::kF32, 1, n),
                          .slope1 = 0.25F,
                          .conv2 = ops->pack(source(w2), dtype),
                          .bias2 = ops->allocate(DType::kF32, 1, n),
                          .slope2 = 0.125F,
                          .taps = shape.taps,
                          .dilation = shape.dilation};
        ops->upload(unit.bias1, floats(random_array(1, n, 5)));
        ops->upload(unit.bias2, floats(random_array(1, n, 6)));
        const View x = place(*ops, signal, dtype);
        const View want = place(*ops, before, DType::kF32);
        const View between = place(*ops, before, dtype);
        ops->conv1d(between, x, unit.conv1, shape.taps, shape.dilation, {.bias = unit.bias1, .prelu = &unit.slope1});
        ops->conv1d(want, between, unit.conv2, 1, 1, {.bias = unit.bias2, .prelu = &unit.slope2, .add = true});

        const View out = place(*ops, before, DType::kF32, 1, 2);
        const View copy = place(*ops, Array(shape.rows, n), dtype, 3, 1);
        ops->residual_unit(out, copy, x, unit);
        ASSERT_TRUE(same_bits(read(*ops, out), read(*ops, want)));
        const View rounded_out = place(*ops, Array(shape.rows, n), dtype);
        ops->copy(rounded_out, want);
        ASSERT_TRUE(same_bits(read(*ops, copy), read(*ops, rounded_out)));

        ops->upload(out, floats(before));
        ops->residual_unit(out, {}, x, unit);
        ASSERT_TRUE(same_bits(read(*ops, out), read(*ops, want)));
      }
    }
  }
}

TEST(Products, work_is_shared_even_when_there_are_few_outputs) {
  for (const std::string& isa : available_isas()) {
    const cpu::Kernels& kernels = *cpu::choose_isa(isa).kernels;
    for (const Shape& shape : {Shape{1, 1000, 105}, Shape{2, 64, 128}, Shape{33, 150, 105}, Shape{200, 64, 7}}) {
      const int64_t panels = (shape.n + kernels.panel_width - 1) / kernels.panel_width;
      const cpu::ProductCut cut = cpu::cut_product(kernels, 2, shape.rows, panels, shape.k);
      EXPECT_TRUE(cut.rows < shape.rows || cut.panels < panels) << isa << " " << shape.rows << " x " << shape.n;
    }
  }
}

TEST(Products, weights_are_rounded_to_nearest_even) {
  const auto ops = ops_for("");
  // 1 + 1/256 lies halfway between two bf16 and goes to the even 1; 1 + 3/256 goes up to 1 + 4/256.
  Array w(2, 1);
  w.values = {1 + 0x1p-8, 1 + 3 * 0x1p-8};
  const Matrix weight = ops->pack(source(w), DType::kBF16);
  const View x = place(*ops, Array{1, 1}, DType::kBF16);
  ops->upload(x, std::vector<float>{1.0F});
  const View out = place(*ops, Array(1, 2), DType::kF32);
  ops->linear(out, x, weight);
  EXPECT_EQ(read(*ops, out), (std::vector<float>{1.0F, 1 + 0x1p-6F}));
}

}  // namespace
}  // namespace heartmula::testing_cpu

// Norms, element-wise operations, embeddings, memory.
#include "base/error.h"
#include "cpu/testing.h"

namespace heartmula::testing_cpu {
namespace {

INSTANTIATE_TEST_SUITE_P(Rows, EveryIsa, testing::ValuesIn(available_isas()), isa_name);

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_P(EveryIsa, norms_agree_with_float64) {
  const auto ops = ops_for(GetParam());
  const float eps = 1e-5F;
  for (const DType in : kTypes) {
    for (const DType out_dtype : kTypes) {
      for (const int64_t cols : {1, 7, 37, 84, 150, 3072}) {
        SCOPED_TRACE(testing::Message() << dtype_name(in) << " to " << dtype_name(out_dtype) << ", " << cols);
        Array x = random_array(5, cols, 1);
        for (double& v : x.values) v += 3;  // a mean worth subtracting
        x = rounded(x, in);
        const Array gain = random_array(1, cols, 2);
        const Array scale = random_array(1, cols, 3);
        const Array shift = random_array(1, cols, 4);
        Array rms = oracle::rms_normalized(x, eps);
        Array modulated = rms;
        Array layer = oracle::layer_normalized(x, eps);
        Array bound(5, cols);
        for (int64_t r = 0; r < 5; ++r) {
          for (int64_t c = 0; c < cols; ++c) {
            rms.at(r, c) *= gain.at(0, c);
            modulated.at(r, c) = rms.at(r, c) * (1 + scale.at(0, c)) + shift.at(0, c);
            // What the subtraction of the mean loses is relative to the values before it.
            const double spread = cols == 1 ? 1 / std::sqrt(eps) : layer.at(r, c) / (x.at(r, c) - oracle::mean(x, r));
            layer.at(r, c) = layer.at(r, c) * (1 + scale.at(0, c)) + shift.at(0, c);
            bound.at(r, c) = (1 + std::fabs(scale.at(0, c))) * (1 + std::fabs(spread) * 4) + std::fabs(shift.at(0, c));
          }
        }
        const View view = place(*ops, x, in, 1, 1);
        const View g = place(*ops, gain, DType::kF32);
        const View m = place(*ops, scale, DType::kF32);
        const View s = place(*ops, shift, DType::kF32);
        const View out = place(*ops, Array(5, cols), out_dtype, 1, 1);
        ops->rms_norm(out, view, g, eps);
        expect_near(read_array(*ops, out), rms, bound, 4 * half_ulp(out_dtype), 1e-7);
        ops->rms_norm_modulated(out, view, g, m, s, eps);
        expect_near(read_array(*ops, out), modulated, bound, 4 * half_ulp(out_dtype), 1e-6);
        ops->layer_norm_modulated(out, view, m, s, eps);
        expect_near(read_array(*ops, out), layer, bound, 4 * half_ulp(out_dtype), 1e-6);
      }
    }
  }
}

TEST_P(EveryIsa, elementwise_operations_agree_with_float64) {
  const auto ops = ops_for(GetParam());
  for (const DType in : kTypes) {
    for (const DType out_dtype : kTypes) {
      const int64_t cols = 105;
      const Array x = rounded(random_array(33, cols, 1), in);
      const Array y = random_array(33, cols, 2);
      const View view_x = place(*ops, x, in, 1);
      const View view_y = place(*ops, y, DType::kF32, 2);
      const View out = place(*ops, Array(33, cols), out_dtype, 3, 1);
      Array combined(33, cols), guided(33, cols), silu(33, cols), bound(33, cols);
      for (size_t i = 0; i < x.values.size(); ++i) {
        const double a = x.values[i];
        const double b = y.values[i];
        combined.values[i] = 0.75 * a - 1.5 * b;
        guided.values[i] = b + 1.25 * (a - b);
        silu.values[i] = oracle::silu(a);
        bound.values[i] = std::fabs(a) + std::fabs(b);
      }
      ops->copy(out, view_x);
      expect_near(read_array(*ops, out), x, bound, half_ulp(out_dtype), 0);
      ops->combine(out, 0.75F, view_x, -1.5F, view_y);
      expect_near(read_array(*ops, out), combined, bound, half_ulp(out_dtype), 4e-7);
      ops->guide(out, view_x, view_y, 1.25F);
      expect_near(read_array(*ops, out), guided, bound, half_ulp(out_dtype), 6e-7);
      ops->silu(out, view_x);
      expect_near(read_array(*ops, out), silu, bound, half_ulp(out_dtype) + 4e-7, 0);
    }
  }
}

TEST_P(EveryIsa, silu_is_right_for_every_magnitude) {
  const auto ops = ops_for(GetParam());
  Array x(1, 0);
  for (double v = -110; v <= 110; v += 0.0625) x.values.push_back(v);
  for (const double v : {-1e4, 1e4, -1e30, 1e30, -0.0, 1e-30}) x.values.push_back(v);
  x.cols = static_cast<int64_t>(x.values.size());
  const View out = place(*ops, Array(1, x.cols), DType::kF32);
  ops->silu(out, place(*ops, x, DType::kF32));
  const Array got = read_array(*ops, out);
  for (int64_t i = 0; i < x.cols; ++i) {
    const double want = oracle::silu(x.at(0, i));
    // Below -88 the quotient is x / e^88 at most, which is 0 for every purpose.
    ASSERT_NEAR(got.at(0, i), want,
                4e-7 * std::fabs(want) + (x.at(0, i) < -86 ? 1e-7 * 1e-29 * std::fabs(x.at(0, i)) : 0))
        << x.at(0, i);
  }
}

TEST_P(EveryIsa, conversion_to_bf16_rounds_as_the_exact_one) {
  const auto ops = ops_for(GetParam());
  std::vector<float> values{0.0F,      -0.0F,     1 + 0x1p-8F, 1 + 3 * 0x1p-8F, 0x1.fffffep127F,
                            0x1p-149F, kInfinity, -kInfinity};
  std::mt19937 generator(1);
  while (values.size() < 1000) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(generator())));
  const Tensor out = ops->allocate(DType::kBF16, 1, 1000);
  ops->upload(out, values);
  std::vector<float> got(values.size());
  ops->download(got, out);
  for (size_t i = 0; i < values.size(); ++i) {
    const float want = bf16_to_f32(f32_to_bf16(values[i]));
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want)) << values[i];
  }
}

TEST_P(EveryIsa, round_levels_rounds_halves_to_even) {
  const auto ops = ops_for(GetParam());
  Array x(1, 9);
  x.values = {0.5 / 9, 1.5 / 8, 2.5 / 8, -0.5 / 8, -1.5 / 8, 0.99, -1.0, 3.49999 / 8, 0};
  const View out = place(*ops, Array(1, 9), DType::kF32);
  ops->round_levels(out, place(*ops, x, DType::kF32), 8);
  EXPECT_EQ(read(*ops, out), (std::vector<float>{0, 0.25, 0.25, 0, -0.25, 1, -1, 0.375, 0}));
}

TEST_P(EveryIsa, row_result_does_not_depend_on_the_number_of_rows_or_threads) {
  const Array x = random_array(300, 150, 1);
  const Array gain = random_array(1, 150, 2);
  std::vector<float> expected;
  for (const int threads : {1, 2, 3, 7}) {
    const auto ops = ops_for(GetParam(), threads);
    const View view = place(*ops, x, DType::kF32);
    const View g = place(*ops, gain, DType::kF32);
    const View out = place(*ops, Array(300, 150), DType::kF32);
    ops->layer_norm_modulated(out, view, g, g, 1e-5F);
    ops->rms_norm(out, out, g, 1e-5F);
    ops->silu(out, out);
    if (threads == 1) expected = read(*ops, out);
    ASSERT_TRUE(same_bits(read(*ops, out), expected));
    for (int64_t row = 0; row < 300; row += 41) {
      const View alone = place(*ops, Array(1, 150), DType::kF32, 3);
      ops->layer_norm_modulated(alone, view.slice_rows(row, 1), g, g, 1e-5F);
      ops->rms_norm(alone, alone, g, 1e-5F);
      ops->silu(alone, alone);
      ASSERT_TRUE(same_bits(read(*ops, alone), {expected.begin() + row * 150, expected.begin() + (row + 1) * 150}));
    }
  }
}

TEST_P(EveryIsa, embed_sum_adds_entries_in_order) {
  const auto ops = ops_for(GetParam());
  const int64_t width = 37;
  const Array table = random_array(10, width, 1);
  std::vector<uint16_t> bf16;
  for (const double v : table.values) bf16.push_back(f32_to_bf16(static_cast<float>(v)));
  const std::vector<float> f32 = floats(table);
  const std::vector<int32_t> ids{3, -1, 9, 0, 0, 7, -1, -1, -1};
  const auto expect_sums = [&](const Table& t) {
    const View out = place(*ops, Array(3, width), DType::kF32, 1);
    ops->embed_sum(out, t, ids, 3);
    const std::vector<float> got = read(*ops, out);
    for (int64_t r = 0; r < 3; ++r) {
      for (int64_t c = 0; c < width; ++c) {
        float want = 0;
        for (int64_t i = 0; i < 3; ++i) {
          const int32_t id = ids[static_cast<size_t>(3 * r + i)];
          if (id < 0) continue;
          const float entry = load_as_f32(t.rows.data, t.rows.dtype, id * width + c);
          want += t.round_to == DType::kBF16 ? bf16_to_f32(f32_to_bf16(entry)) : entry;
        }
        ASSERT_EQ(got[static_cast<size_t>(r * width + c)], want);
      }
    }
  };
  expect_sums({ConstView(f32.data(), DType::kF32, 10, width, width)});
  expect_sums({ConstView(f32.data(), DType::kF32, 10, width, width), DType::kBF16});
  expect_sums({ConstView(bf16.data(), DType::kBF16, 10, width, width)});
  expect_sums({ConstView(bf16.data(), DType::kF16, 10, width, width)});
}

TEST_P(EveryIsa, sample_gives_each_song_the_code_that_it_has_alone) {
  constexpr int64_t kVocabulary = 300;
  const PhiloxNoise noise(3);
  const PhiloxNoise other_noise(4);
  struct Song {
    SamplingRule rule;
    const SamplingNoise& noise;
    int32_t frame;
  };
  std::vector<Song> songs;
  for (int32_t i = 0; i < 33; ++i) {
    const SamplingSettings settings{.topk = 1 + 7 * (i % 5),
                                    .temperature = 0.5F + 0.1F * static_cast<float>(i % 7),
                                    .guidance = i % 3 == 0 ? 1.0F : 1.5F};
    songs.push_back({{settings, i % 2 == 0 ? 50 : 0, 200}, i % 4 == 0 ? other_noise : noise, 3 * i});
  }
  for (const int threads : {1, 3}) {
    const auto ops = ops_for(GetParam(), threads);
    const View logits = place(*ops, random_array(66, kVocabulary, 5), DType::kF32, 1, 1);
    const Tensor codes = ops->allocate(DType::kI32, 66, 8);
    const Tensor frames = ops->allocate(DType::kI32, 33, 1);
    std::vector<std::unique_ptr<CodeSampler>> samplers;
    std::vector<SongSample> samples;
    std::vector<int32_t> numbers;
    int64_t row = 0;
    for (const Song& song : songs) {
      const auto index = static_cast<int64_t>(samples.size());
      const int64_t streams = song.rule.settings.streams();
      samplers.push_back(ops->make_sampler(song.rule, song.noise));
      samples.push_back({samplers.back().get(), logits.slice_rows(row, streams), frames.slice_rows(index, 1),
                         codes.slice_rows(row, streams).slice_cols(2, 1)});
      numbers.push_back(song.frame);
      row += streams;
    }
    ops->upload(frames, numbers);
    ops->sample(samples, 6);
    std::vector<int32_t> together(66 * 8);
    ops->download(together, codes);
    row = 0;
    for (size_t i = 0; i < songs.size(); ++i) {
      const SamplingRule& rule = songs[i].rule;
      SamplingScratch scratch;
      const int32_t alone = sample_code(rule.settings, songs[i].noise, samples[i].logits,
                                        static_cast<uint32_t>(numbers[i]), 6, rule.allowed(numbers[i]), scratch);
      for (int64_t stream = 0; stream < rule.settings.streams(); ++stream, ++row) {
        EXPECT_EQ(together[static_cast<size_t>(row * 8 + 2)], alone) << i;
      }
    }
  }
}

TEST_P(EveryIsa, diagonal_sum_agrees_with_float64) {
  const auto ops = ops_for(GetParam());
  const Array x = random_array(40, 7, 1);
  Array want(1, 34), bound(1, 34);
  for (int64_t t = 0; t < 34; ++t) {
    want.at(0, t) = 0.5;
    bound.at(0, t) = 8;
    for (int64_t j = 0; j < 7; ++j) want.at(0, t) += x.at(t + j, j);
  }
  Array half(1, 1);
  half.at(0, 0) = 0.5;
  const View out = place(*ops, Array(1, 34), DType::kF32);
  ops->diagonal_sum(out, place(*ops, x, DType::kF32), place(*ops, half, DType::kF32));
  expect_near(read_array(*ops, out), want, bound, 0, 1e-6);
}

TEST_P(EveryIsa, allocated_rows_are_zero_and_aligned) {
  const auto ops = ops_for(GetParam());
  for (const DType dtype : kTypes) {
    const Tensor x = ops->allocate(dtype, 9, 105);
    for (const float v : read(*ops, x)) ASSERT_EQ(v, 0.0F);
    for (int64_t r = 0; r < 9; ++r) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(x.slice_rows(r, 1).data) % 64, 0U);
    }
    const View part = x.view().slice_cols(3, 50).slice_rows(2, 4);
    ops->upload(part, std::vector<float>(200, 1.0F));
    float sum = 0;
    for (const float v : read(*ops, x)) sum += v;
    EXPECT_EQ(sum, 200.0F);
    ops->clear(part);
    for (const float v : read(*ops, x)) ASSERT_EQ(v, 0.0F);
  }
}

TEST(CpuOps, every_operation_stops_when_cancelled) {
  const auto ops = ops_for("");
  const Array x = random_array(3, 16, 1);
  const View view = place(*ops, x, DType::kF32);
  const View out = place(*ops, x, DType::kF32);
  const Matrix weight = ops->pack(source(random_array(16, 16, 2)), DType::kF32);
  CancelToken token;
  ops->set_cancel_token(&token);
  ops->linear(out, view, weight);
  token.cancel();
  const auto expect_cancelled = [](const auto& operation) {
    try {
      operation();
      ADD_FAILURE() << "not cancelled";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCancelled);
    }
  };
  expect_cancelled([&] { ops->linear(out, view, weight); });
  expect_cancelled([&] { ops->silu(out, view); });
  expect_cancelled([&] { ops->rms_norm(out, view, view.slice_rows(0, 1), 1e-5F); });
  const Rope rope{ops->allocate(DType::kF32, 3, 4), ops->allocate(DType::kF32, 3, 4)};
  expect_cancelled([&] { ops->attend_all(out, view, view, view, rope, 2, 1); });
  expect_cancelled([&] { ops->pack(source(x), DType::kF32); });
  ops->set_cancel_token(nullptr);
  ops->linear(out, view, weight);
}

TEST(CpuOps, instruction_set_can_be_chosen) {
  for (const std::string& isa : available_isas()) {
    EXPECT_EQ(make_cpu_ops({.threads = 1, .isa = isa})->description(), "cpu (" + isa + ", 1 thread)");
    setenv("HEARTMULA_ISA", isa.c_str(), 1);
    EXPECT_EQ(make_cpu_ops({.threads = 2, .isa = ""})->description(), "cpu (" + isa + ", 2 threads)");
  }
  setenv("HEARTMULA_ISA", "mmx", 1);
  try {
    make_cpu_ops({});
    ADD_FAILURE() << "mmx accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    EXPECT_NE(std::string(error.what()).find(available_isas().front()), std::string::npos) << error.what();
  }
  unsetenv("HEARTMULA_ISA");
}

}  // namespace
}  // namespace heartmula::testing_cpu

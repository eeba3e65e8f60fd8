// The operations of the language model on the (emulated) GPU beside those of the CPU, which are proven against float64.
#include "cuda/cuda_ops.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "cpu/cpu_ops.h"
#include "ops/rope.h"

namespace heartmula {
namespace {

constexpr float kTolerance = 2e-6F;  // of sums of values of about one
constexpr int64_t kMany = 70;        // rows: more than one pass of the many-row kernel

std::vector<float> random_values(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(generator);
  return values;
}

std::vector<float> read(Ops& ops, ConstView x) {
  std::vector<float> values(static_cast<size_t>(x.rows * x.cols));
  ops.download(values, x);
  return values;
}

Tensor place(Ops& ops, DType dtype, int64_t rows, int64_t cols, uint32_t seed) {
  Tensor x = ops.allocate(dtype, rows, cols);
  ops.upload(x, random_values(rows * cols, seed));
  return x;
}

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected, float tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  float worst = 0;
  for (size_t i = 0; i < actual.size(); ++i) worst = std::max(worst, std::abs(actual[i] - expected[i]));
  EXPECT_LE(worst, tolerance) << what;
}

MatrixSource random_matrix(int64_t n, int64_t k, uint32_t seed) {
  const auto values = std::make_shared<std::vector<float>>(random_values(n * k, seed));
  for (float& value : *values) value /= std::sqrt(static_cast<float>(k));
  return {n, k, [values, k](int64_t output, float* row) { std::copy_n(values->data() + output * k, k, row); }, "w", {}};
}

class CudaOps : public testing::TestWithParam<DType> {
 protected:
  const std::unique_ptr<Ops> cpu = make_cpu_ops({.threads = 1});
  const std::unique_ptr<Ops> gpu = make_cuda_ops({});
};

struct Product {
  Tensor out;
  std::vector<float> values;
};

// All kinds of product of `rows` rows of one x.
std::vector<std::vector<float>> products(Ops& ops, DType dtype, int64_t rows, int64_t n, int64_t k) {
  const Matrix w = ops.pack(random_matrix(n, k, 1), dtype);
  const Matrix gated = ops.pack_gate_up(random_matrix(n, k, 2), random_matrix(n, k, 3), dtype);
  const Tensor x = place(ops, dtype, kMany, k, 4);
  const Tensor raw = place(ops, DType::kF32, kMany, k, 5);
  const Tensor gain = place(ops, DType::kF32, 1, k, 6);
  const Tensor bias = place(ops, DType::kF32, 1, n, 7);
  const Tensor memory = ops.allocate(dtype, rows, k);
  std::vector<std::vector<float>> results;
  const auto run = [&](DType out_dtype, const auto& product) {
    const Tensor out = place(ops, out_dtype, rows, n, 8);
    product(out);
    results.push_back(read(ops, out));
  };
  const Normed normed{raw.slice_rows(0, rows), gain, 1e-5F, memory};
  run(DType::kF32, [&](View out) { ops.linear(out, x.slice_rows(0, rows), w, bias); });
  run(dtype, [&](View out) { ops.linear(out, x.slice_rows(0, rows), w); });
  run(DType::kF32, [&](View out) { ops.linear_add(out, x.slice_rows(0, rows), w); });
  run(DType::kF32, [&](View out) { ops.linear_add_scaled(out, x.slice_rows(0, rows), w, bias); });
  run(dtype, [&](View out) { ops.linear_silu_gate(out, x.slice_rows(0, rows), gated); });
  run(DType::kF32, [&](View out) { ops.linear(out, normed, w); });
  run(dtype, [&](View out) { ops.linear_silu_gate(out, normed, gated); });
  return results;
}

TEST_P(CudaOps, products_agree_with_the_cpu) {
  const float tolerance = GetParam() == DType::kF32 ? kTolerance : 0.02F;  // of bf16 outputs and inputs
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{7, 10}, {64, 96}, {130, 264}, {72, 600}, {400, 1060}}) {
    for (const int64_t rows : {1, 2, 9, 17, 33, 70}) {
      const auto expected = products(*cpu, GetParam(), rows, n, k);
      const auto actual = products(*gpu, GetParam(), rows, n, k);
      for (size_t i = 0; i < expected.size(); ++i) {
        expect_near(actual[i], expected[i], tolerance, fmt::format("product {} of {} x {} x {}", i, rows, n, k));
      }
    }
  }
}

TEST_P(CudaOps, a_row_has_the_same_bits_for_any_number_of_rows) {
  // Few outputs, whose slices many blocks share, and enough for a block that takes all slices.
  for (const int64_t outputs : {40, 300}) {
    const auto all = products(*gpu, GetParam(), kMany, outputs, 300);
    for (const int64_t rows : {1, 2, 8, 16, 17, 40, 64}) {
      if (outputs > 40 && rows < 16) continue;
      const auto some = products(*gpu, GetParam(), rows, outputs, 300);
      for (size_t i = 0; i < all.size(); ++i) {
        const std::vector<float> first(all[i].begin(), all[i].begin() + rows * outputs);
        EXPECT_EQ(some[i], first) << "product " << i << " of " << rows << " rows of " << outputs;
      }
    }
  }
}

// Outputs of every row of two streams whose positions end in different chunks, one after the other and then together.
TEST_P(CudaOps, attention_agrees_with_the_cpu) {
  constexpr int64_t kHeads = 6;
  constexpr int64_t kKvHeads = 2;
  constexpr int64_t kCapacity = 600;
  for (const int64_t head_dim : {16, 32, 384}) {
    std::vector<std::vector<float>> results;
    for (Ops* ops : {cpu.get(), gpu.get()}) {
      const Rope rope = make_rope(*ops, rope_frequencies(head_dim, 10000.0), kCapacity);
      const auto cache = ops->make_kv_cache({2, kCapacity, kKvHeads, head_dim, GetParam()});
      const auto attend = [&](const std::vector<Row>& rows, uint32_t seed) {
        const auto count = static_cast<int64_t>(rows.size());
        const Tensor q = place(*ops, DType::kF32, count, kHeads * head_dim, seed);
        const Tensor k = place(*ops, DType::kF32, count, kKvHeads * head_dim, seed + 1);
        const Tensor v = place(*ops, DType::kF32, count, kKvHeads * head_dim, seed + 2);
        const Tensor out = ops->allocate(GetParam(), count, kHeads * head_dim);
        const auto placed = ops->make_rows(count);
        ops->set_rows(*placed, rows);
        ops->append_and_attend(out, q, k, v, rope, *cache, *placed);
        results.push_back(read(*ops, out));
        ops->advance(*placed);
        ops->append_and_attend(out, q, k, v, rope, *cache, *placed);
        results.push_back(read(*ops, out));
      };
      attend({{0, 0, 1}, {0, 1, 1}, {0, 2, 1}, {1, 0, 300}}, 1);
      attend({{0, 3, 1}, {1, 300, 1}}, 4);
      std::vector<Row> rows;
      for (int32_t i = 5; i < 270; ++i) rows.push_back({0, i, 1});
      attend(rows, 7);
      attend({{1, 302, 1}, {0, 271, 1}}, 10);
    }
    const float tolerance = GetParam() == DType::kF32 ? kTolerance : 0.02F;
    for (size_t i = 0; i < results.size() / 2; ++i) {
      expect_near(results[i + results.size() / 2], results[i], tolerance, fmt::format("pass {}, {}", i, head_dim));
    }
  }
}

// A table says where the blocks of two streams lie; one of them goes to the host and comes back to another place.
TEST_P(CudaOps, attention_does_not_depend_on_where_blocks_lie) {
  constexpr int64_t kHeads = 6;
  constexpr int64_t kKvHeads = 2;
  constexpr int64_t kCapacity = 600;
  constexpr int64_t kHeadDim = 32;
  const Rope rope = make_rope(*gpu, rope_frequencies(kHeadDim, 10000.0), kCapacity);
  const auto table = gpu->make_kv_table(2, 3);
  const auto plain = gpu->make_kv_cache({2, kCapacity, kKvHeads, kHeadDim, GetParam()});
  const auto paged = gpu->make_kv_cache({2, kCapacity, kKvHeads, kHeadDim, GetParam(), 7}, table.get());
  const std::vector<int32_t> places{5, 0, 3, 1, 4, 2};
  gpu->set_kv_places(*table, 0, 0, std::span(places).first(3));
  gpu->set_kv_places(*table, 1, 0, std::span(places).last(3));
  const auto attend = [&](KvCache& cache, const std::vector<Row>& rows, uint32_t seed) {
    const auto count = static_cast<int64_t>(rows.size());
    const Tensor q = place(*gpu, DType::kF32, count, kHeads * kHeadDim, seed);
    const Tensor k = place(*gpu, DType::kF32, count, kKvHeads * kHeadDim, seed + 1);
    const Tensor v = place(*gpu, DType::kF32, count, kKvHeads * kHeadDim, seed + 2);
    const Tensor out = gpu->allocate(GetParam(), count, kHeads * kHeadDim);
    const auto placed = gpu->make_rows(count);
    gpu->set_rows(*placed, rows);
    gpu->append_and_attend(out, q, k, v, rope, cache, *placed);
    return read(*gpu, out);
  };
  std::vector<Row> beginning{{1, 0, 520}};
  for (int32_t i = 0; i < 300; ++i) beginning.push_back({0, i, 1});
  EXPECT_EQ(attend(*paged, beginning, 1), attend(*plain, beginning, 1));
  const std::vector<Row> next{{0, 300, 1}, {1, 520, 1}};
  EXPECT_EQ(attend(*paged, next, 4), attend(*plain, next, 4));

  std::vector<std::byte> block(static_cast<size_t>(gpu->kv_block_bytes(*paged)));
  gpu->download_kv(block, *paged, places[1]);
  gpu->upload_kv(*paged, 6, block);
  std::ranges::fill(block, std::byte{0x77});
  gpu->upload_kv(*paged, places[1], block);
  const std::vector<int32_t> moved{6};
  gpu->set_kv_places(*table, 0, 1, moved);
  const std::vector<Row> last{{0, 301, 1}, {1, 521, 1}};
  EXPECT_EQ(attend(*paged, last, 7), attend(*plain, last, 7));
}

TEST_P(CudaOps, norms_and_elements_agree_with_the_cpu) {
  for (const int64_t width : {5, 64, 1030, 1100}) {
    std::vector<std::vector<float>> results;
    for (Ops* ops : {cpu.get(), gpu.get()}) {
      const Tensor x = place(*ops, DType::kF32, 3, width, 1);
      const Tensor y = place(*ops, DType::kF32, 3, width, 2);
      const Tensor gain = place(*ops, DType::kF32, 1, width, 3);
      const Tensor scale = place(*ops, DType::kF32, 1, width, 4);
      const Tensor out = ops->allocate(GetParam(), 3, width);
      const auto keep = [&] { results.push_back(read(*ops, out)); };
      ops->rms_norm(out, x, gain, 1e-5F);
      keep();
      ops->rms_norm_modulated(out, x, gain, scale, gain, 1e-5F);
      keep();
      ops->layer_norm_modulated(out, x, scale, gain, 1e-5F);
      keep();
      ops->combine(out, 0.5F, x, 2.0F, y);
      keep();
      ops->guide(out, x, y, 1.5F);
      keep();
      ops->silu(out, x);
      keep();
      ops->round_levels(out, x, 9.0F);
      keep();
      ops->copy(out.slice_cols(0, width - 1), y.slice_cols(1, width - 1));
      keep();
      ops->clear(out.slice_cols(1, width - 2));
      keep();
    }
    const float tolerance = GetParam() == DType::kF32 ? kTolerance : 0.02F;
    for (size_t i = 0; i < results.size() / 2; ++i) {
      expect_near(results[i + results.size() / 2], results[i], tolerance, fmt::format("operation {}, {}", i, width));
    }
  }
}

TEST_P(CudaOps, diagonals_and_embeddings_agree_with_the_cpu) {
  const std::vector<float> entries = random_values(40 * 24, 1);
  const std::vector<int32_t> ids = {1, 3, 0, 2, 4, 1};
  std::vector<std::vector<float>> results;
  for (Ops* ops : {cpu.get(), gpu.get()}) {
    const Table table = ops->place({{entries.data(), DType::kF32, 40, 24, 24}, GetParam()});
    const Tensor out = ops->allocate(GetParam(), 2, 24);
    ops->embed_sum(out, table, ids, 3);
    results.push_back(read(*ops, out));
    const Tensor codes = ops->allocate(DType::kI32, 2, 3);
    ops->upload(codes, ids);
    ops->embed_codes(out, table, codes, 4, 10);
    results.push_back(read(*ops, out));
    const Tensor taps = place(*ops, DType::kF32, 20, 5, 3);
    const Tensor wave = ops->allocate(DType::kF32, 1, 16);
    ops->diagonal_sum(wave, taps, place(*ops, DType::kF32, 1, 1, 4));
    results.push_back(read(*ops, wave));
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(results[i + 3], results[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(F32AndBf16, CudaOps, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& instance) { return std::string(dtype_name(instance.param)); });

// A recorded program that samples and counts, and what it posts.
std::vector<int32_t> sampled(Ops& ops, std::span<const float> logits, const SamplingRule& rule,
                             const SamplingNoise& noise, int32_t frames) {
  const int64_t streams = rule.settings.streams();
  const Tensor values = ops.allocate(DType::kF32, streams, static_cast<int64_t>(logits.size()) / streams);
  ops.upload(values, logits);
  const Tensor codes = ops.allocate(DType::kI32, streams, 1);
  const Tensor number = ops.allocate(DType::kI32, 1, 1);
  const Tensor mailbox = ops.make_mailbox(2, 1);
  const auto sampler = ops.make_sampler(rule, noise);
  const auto program = ops.record([&] {
    const SongSample song{sampler.get(), values, number, codes};
    ops.sample({&song, 1}, 3);
    ops.post(mailbox, codes.slice_rows(0, 1), number);
    ops.increment(number);
  });
  std::vector<int32_t> results(static_cast<size_t>(frames));
  for (int32_t frame = 0; frame < frames; ++frame) {
    ops.start(*program);
    ops.collect(std::span(results).subspan(static_cast<size_t>(frame), 1), mailbox, frame);
  }
  return results;
}

TEST(CudaSampler, gives_the_code_that_the_cpu_gives) {
  const std::unique_ptr<Ops> cpu = make_cpu_ops({.threads = 1});
  const std::unique_ptr<Ops> gpu = make_cuda_ops({});
  const PhiloxNoise noise(7);
  constexpr int64_t kVocabulary = 1500;
  std::vector<float> plain = random_values(2 * kVocabulary, 1);
  std::vector<float> ties = plain;  // two thirds of all values are one of three
  for (size_t i = 0; i < ties.size(); ++i) {
    if (i % 3 != 0) ties[i] = static_cast<float>(i % 3) - 1.0F;
  }
  for (const std::vector<float>& logits : {plain, ties}) {
    for (const float guidance : {1.0F, 1.5F}) {
      const auto rows = std::span(logits).first(static_cast<size_t>(guidance > 1.0F ? 2 : 1) * kVocabulary);
      for (const int64_t topk : {1, 50, 1100, 5000}) {
        const SamplingRule rule{{.topk = topk, .temperature = 0.7F, .guidance = guidance}, 3, 40};
        EXPECT_EQ(sampled(*gpu, rows, rule, noise, 6), sampled(*cpu, rows, rule, noise, 6))
            << topk << " of " << guidance;
      }
    }
  }
}

TEST(CudaSampler, gives_each_of_many_songs_the_code_that_it_gets_alone) {
  const std::unique_ptr<Ops> cpu = make_cpu_ops({.threads = 1});
  const std::unique_ptr<Ops> gpu = make_cuda_ops({});
  constexpr int64_t kVocabulary = 300;
  std::vector<std::vector<int32_t>> codes;
  for (Ops* ops : {cpu.get(), gpu.get()}) {
    std::vector<Tensor> tensors;
    std::deque<PhiloxNoise> noises;
    std::vector<std::unique_ptr<CodeSampler>> samplers;
    std::vector<SongSample> songs;
    for (int song = 0; song < 35; ++song) {  // more than a launch takes
      const float guidance = song % 3 == 0 ? 1.0F : 1.5F;
      const SamplingRule rule{{.topk = 5 + song, .temperature = 0.7F, .guidance = guidance}};
      samplers.push_back(ops->make_sampler(rule, noises.emplace_back(static_cast<uint64_t>(song))));
      const Tensor logits = ops->allocate(DType::kF32, rule.settings.streams(), kVocabulary);
      ops->upload(logits, random_values(static_cast<size_t>(logits.rows() * kVocabulary), static_cast<unsigned>(song)));
      const Tensor number = ops->allocate(DType::kI32, 1, 1);
      ops->upload(number, std::vector<int32_t>{song});
      const Tensor code = ops->allocate(DType::kI32, rule.settings.streams(), 1);
      songs.push_back({samplers.back().get(), logits, number, code});
      tensors.insert(tensors.end(), {logits, number, code});
    }
    ops->sample(songs, 2);
    std::vector<int32_t> all;
    for (const SongSample& song : songs) {
      std::vector<int32_t> rows(static_cast<size_t>(song.codes.rows));
      ops->download(rows, song.codes);
      all.insert(all.end(), rows.begin(), rows.end());
    }
    codes.push_back(all);
  }
  EXPECT_EQ(codes[1], codes[0]);
}

TEST(CudaSampler, says_that_logits_are_not_numbers) {
  const std::unique_ptr<Ops> gpu = make_cuda_ops({});
  std::vector<float> logits = random_values(100, 1);
  logits[99] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sampled(*gpu, logits, {{.guidance = 1.0F}}, PhiloxNoise(1), 1), std::vector<int32_t>{-1});
}

}  // namespace
}  // namespace heartmula

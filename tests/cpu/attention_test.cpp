#include <numeric>

#include "cpu/testing.h"

namespace heartmula::testing_cpu {
namespace {

INSTANTIATE_TEST_SUITE_P(Attention, EveryIsa, testing::ValuesIn(available_isas()), isa_name);

constexpr DType kCacheTypes[] = {DType::kF32, DType::kBF16};

struct Heads {
  int64_t heads, kv_heads, dim;
};
constexpr Heads kHeads[] = {{4, 2, 16}, {6, 2, 14}, {3, 1, 128}, {2, 2, 24}, {3, 3, 42}};

Array cosines(int64_t positions, int64_t pairs, bool sine) {
  Array table(positions, pairs);
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < pairs; ++i) {
      const double angle = static_cast<double>(p) * std::pow(0.7, static_cast<double>(i));
      table.at(p, i) = static_cast<float>(sine ? std::sin(angle) : std::cos(angle));
    }
  }
  return table;
}

/// Of no rotation.
Rope identity_rope(Ops& ops, int64_t positions, int64_t dim) {
  Rope rope{ops.allocate(DType::kF32, positions, dim / 2), ops.allocate(DType::kF32, positions, dim / 2)};
  ops.upload(rope.cos, std::vector<float>(static_cast<size_t>(positions * dim / 2), 1.0F));
  return rope;
}

Rope rope_of(Ops& ops, int64_t positions, int64_t dim) {
  Rope rope{ops.allocate(DType::kF32, positions, dim / 2), ops.allocate(DType::kF32, positions, dim / 2)};
  ops.upload(rope.cos, floats(cosines(positions, dim / 2, false)));
  ops.upload(rope.sin, floats(cosines(positions, dim / 2, true)));
  return rope;
}

/// Rows of one stream at positions first, first + 1, ...
std::vector<Row> consecutive(int64_t count, int32_t first = 0, int32_t stream = 0) {
  std::vector<Row> rows;
  for (int32_t i = 0; i < count; ++i) rows.push_back({stream, first + i});
  return rows;
}

double greatest(const Array& x) {
  double most = 0;
  for (const double v : x.values) most = std::max(most, std::fabs(v));
  return most;
}

Array constant(int64_t rows, int64_t cols, double value) {
  Array x(rows, cols);
  std::fill(x.values.begin(), x.values.end(), value);
  return x;
}

/// Queries, keys and values of one stream, and what attention should make of them.
struct Stream {
  Stream(const Heads& shape, int64_t count, DType dtype, uint32_t seed)
      : q(random_array(count, shape.heads * shape.dim, seed)),
        k(random_array(count, shape.kv_heads * shape.dim, seed + 1)),
        v(random_array(count, shape.kv_heads * shape.dim, seed + 2)) {
    std::vector<int32_t> positions;
    std::vector<int64_t> counts;
    for (int32_t i = 0; i < count; ++i) {
      positions.push_back(i);
      counts.push_back(i + 1);
    }
    const Array cos = cosines(count, shape.dim / 2, false), sin = cosines(count, shape.dim / 2, true);
    const Array queries = oracle::rotated(q, cos, sin, positions);
    const Array keys = oracle::rotated(k, cos, sin, positions);
    want = oracle::attention(rounded(queries, dtype), rounded(keys, dtype), rounded(v, dtype), shape.heads,
                             shape.kv_heads, counts);
  }

  Array q, k, v, want;
};

// Rotated queries and keys are rounded to the cache's dtype from f32 here and from float64 in the oracle: a bf16 ulp
// now and then.
double tolerance(DType cache) {
  return cache == DType::kBF16 ? 4e-3 : 4e-6;
}

TEST_P(EveryIsa, attend_agrees_with_float64) {
  const auto ops = ops_for(GetParam());
  for (const DType dtype : kCacheTypes) {
    for (const Heads& shape : kHeads) {
      SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " " << shape.heads << "/" << shape.kv_heads << " x "
                                      << shape.dim);
      const int64_t count = 300;  // more than a block of keys
      const Rope rope = rope_of(*ops, count, shape.dim);
      const Stream stream(shape, count, dtype, 5);
      const auto cache = ops->make_kv_cache({2, count + 3, shape.kv_heads, shape.dim, dtype});
      const std::vector<Row> rows = consecutive(count, 0, 1);
      ops->append_kv(*cache, place(*ops, stream.k, DType::kF32, 1), place(*ops, stream.v, DType::kF32), rope, rows);
      const View out = place(*ops, Array(count, stream.q.cols), DType::kF32, 1);
      ops->attend(out, place(*ops, stream.q, DType::kF32, 3), rope, *cache, rows);
      expect_near(read_array(*ops, out), stream.want, constant(count, out.cols, greatest(stream.v)), 0,
                  tolerance(dtype));
    }
  }
}

TEST_P(EveryIsa, attend_row_does_not_depend_on_batch_pieces_or_threads) {
  for (const DType dtype : kCacheTypes) {
    for (const Heads& shape : {Heads{6, 2, 14}, Heads{3, 1, 128}}) {
      const int64_t count = 300;
      const Stream first(shape, count, dtype, 5);
      const Stream second(shape, count, dtype, 6);
      std::vector<float> expected;
      for (const int threads : {1, 3, 7}) {
        const auto ops = ops_for(GetParam(), threads);
        const Rope rope = rope_of(*ops, count, shape.dim);
        // Whole prefill of one stream.
        const auto whole = ops->make_kv_cache({1, count, shape.kv_heads, shape.dim, dtype});
        const View out = place(*ops, Array(count, first.q.cols), DType::kF32);
        ops->append_kv(*whole, place(*ops, first.k, DType::kF32), place(*ops, first.v, DType::kF32), rope,
                       consecutive(count));
        const View queries = place(*ops, first.q, DType::kF32);
        ops->attend(out, queries, rope, *whole, consecutive(count));
        if (threads == 1) expected = read(*ops, out);
        ASSERT_TRUE(same_bits(read(*ops, out), expected)) << threads << " threads";

        // In pieces, with another stream in the same calls.
        const auto shared = ops->make_kv_cache({2, count, shape.kv_heads, shape.dim, dtype});
        for (int32_t at = 0, size = 1; at < count; at += size, size = size % 5 + 1 + size / 2) {
          const auto piece = static_cast<int64_t>(std::min<int64_t>(size, count - at));
          std::vector<Row> rows;
          Array q(2 * piece, first.q.cols), k(2 * piece, first.k.cols), v(2 * piece, first.v.cols);
          for (int32_t i = 0; i < piece; ++i) {
            for (const int32_t s : {0, 1}) {
              rows.push_back({s, at + i});
              const Stream& from = s == 0 ? first : second;
              for (const auto& [to, source] : {std::pair{&q, &from.q}, {&k, &from.k}, {&v, &from.v}}) {
                for (int64_t c = 0; c < to->cols; ++c) to->at(2 * i + s, c) = source->at(at + i, c);
              }
            }
          }
          ops->append_kv(*shared, place(*ops, k, DType::kF32), place(*ops, v, DType::kF32), rope, rows);
          const View mixed = place(*ops, Array(2 * piece, q.cols), DType::kF32);
          ops->attend(mixed, place(*ops, q, DType::kF32), rope, *shared, rows);
          const auto begin = expected.begin() + at * q.cols;
          ASSERT_TRUE(same_bits(read(*ops, mixed.every(0, 2, piece)), {begin, begin + piece * q.cols}))
              << piece << " rows from " << at << ", " << threads << " threads, " << dtype_name(dtype);
        }
      }
    }
  }
}

// Around the edges of the blocks of keys, which threads share when rows are few.
TEST_P(EveryIsa, attend_over_many_keys_agrees_with_float64_for_any_threads_and_company) {
  const Heads shape{6, 2, 34};
  const int64_t capacity = 1030;
  const int64_t width = shape.heads * shape.dim;
  const std::vector<int32_t> positions{0, 254, 255, 256, 257, 510, 511, 512, 767, 768, 1023, 1024, 1029};
  for (const DType dtype : kCacheTypes) {
    const Array k = random_array(capacity, shape.kv_heads * shape.dim, 1);
    const Array v = random_array(capacity, shape.kv_heads * shape.dim, 2);
    const Array q = random_array(static_cast<int64_t>(positions.size()), width, 3);
    const Array cos = cosines(capacity, shape.dim / 2, false), sin = cosines(capacity, shape.dim / 2, true);
    std::vector<int32_t> every(static_cast<size_t>(capacity));
    std::iota(every.begin(), every.end(), 0);
    std::vector<int64_t> counts;
    for (const int32_t position : positions) counts.push_back(position + 1);
    const Array want = oracle::attention(rounded(oracle::rotated(q, cos, sin, positions), dtype),
                                         rounded(oracle::rotated(k, cos, sin, every), dtype), rounded(v, dtype),
                                         shape.heads, shape.kv_heads, counts);
    std::vector<float> expected;
    for (const int threads : {1, 2, 3, 7}) {
      const auto ops = ops_for(GetParam(), threads);
      const Rope rope = rope_of(*ops, capacity, shape.dim);
      const auto cache = ops->make_kv_cache({3, capacity, shape.kv_heads, shape.dim, dtype});
      for (const int32_t stream : {0, 2}) {
        ops->append_kv(*cache, place(*ops, k, DType::kF32), place(*ops, v, DType::kF32), rope,
                       consecutive(capacity, 0, stream));
      }
      const View queries = place(*ops, q, DType::kF32);
      const View out = place(*ops, Array(q.rows, width), DType::kF32);
      const auto expect_bits = [&](ConstView got, size_t first, size_t count) {
        const auto begin = expected.begin() + static_cast<int64_t>(first) * width;
        ASSERT_TRUE(same_bits(read(*ops, got), {begin, begin + static_cast<int64_t>(count) * width}))
            << count << " rows from position " << positions[first] << ", " << threads << " threads";
      };
      for (size_t i = 0; i < positions.size(); ++i) {  // each alone
        const auto row = static_cast<int64_t>(i);
        ops->attend(out.slice_rows(row, 1), queries.slice_rows(row, 1), rope, *cache, consecutive(1, positions[i], 2));
      }
      if (threads == 1) {
        expected = read(*ops, out);
        expect_near(read_array(*ops, out), want, constant(q.rows, width, greatest(v)), 0, tolerance(dtype));
      }
      expect_bits(out, 0, positions.size());
      for (const size_t count : {size_t{2}, size_t{3}, size_t{5}, positions.size()}) {
        for (size_t first = 0; first + count <= positions.size(); first += count) {
          std::vector<Row> rows;  // of two streams with the same keys
          for (size_t i = first; i < first + count; ++i) rows.push_back({i % 3 == 0 ? 0 : 2, positions[i]});
          const View part = out.slice_rows(0, static_cast<int64_t>(count));
          ops->attend(part, queries.slice_rows(static_cast<int64_t>(first), static_cast<int64_t>(count)), rope, *cache,
                      rows);
          expect_bits(part, first, count);
        }
      }
    }
  }
}

/// Attention over two keys, whose scores are 0 and `score`: the weight of the second.
std::vector<float> weights_of(Ops& ops, const std::vector<float>& scores) {
  const auto count = static_cast<int64_t>(scores.size());
  const int64_t dim = 16;  // the scale is 1/4
  const Rope rope = identity_rope(ops, 2, dim);
  const auto cache = ops.make_kv_cache({1, 2, 1, dim, DType::kF32});
  Array k(2, dim), v(2, dim), q(count, dim);
  k.at(1, 0) = 1;
  v.at(0, 0) = 1;
  v.at(1, 1) = 1;
  for (int64_t i = 0; i < count; ++i) q.at(i, 0) = 4.0 * scores[static_cast<size_t>(i)];
  ops.append_kv(*cache, place(ops, k, DType::kF32), place(ops, v, DType::kF32), rope, consecutive(2));
  const View out = place(ops, Array(count, dim), DType::kF32);
  const std::vector<Row> rows(static_cast<size_t>(count), Row{0, 1});
  ops.attend(out, place(ops, q, DType::kF32), rope, *cache, rows);
  const Array mixed = read_array(ops, out);
  std::vector<float> weights;
  for (int64_t i = 0; i < count; ++i) weights.push_back(static_cast<float>(mixed.at(i, 1)));
  return weights;
}

TEST_P(EveryIsa, weights_of_attention_are_exact_to_a_few_ulp) {
  const auto ops = ops_for(GetParam());
  std::vector<float> scores;
  for (float x = -86.0F; x <= 86.0F; x += 0.0371F) scores.push_back(x);
  const std::vector<float> weights = weights_of(*ops, scores);
  for (size_t i = 0; i < scores.size(); ++i) {
    const double x = scores[i];
    const double want = 1 / (1 + std::exp(-x));
    // 2.5 ulp of the exponential, the sum, the quotient; and the score in units of log(2), rounded.
    ASSERT_NEAR(weights[i], want, want * 0x1p-23 * (5 + std::max(0.0, -x))) << x;
  }
}

TEST_P(EveryIsa, attention_stands_extreme_scores) {
  const auto ops = ops_for(GetParam());
  const std::vector<float> weights = weights_of(*ops, {-90, -1e4F, -1e30F, 90, 1e4F, 1e30F, 0});
  for (const size_t i : {0, 1, 2}) EXPECT_NEAR(weights[i], 0, 2e-38);
  for (const size_t i : {3, 4, 5}) EXPECT_EQ(weights[i], 1.0F);
  EXPECT_EQ(weights[6], 0.5F);
}

TEST_P(EveryIsa, attend_ignores_what_lies_beyond_the_position) {
  for (const DType dtype : kCacheTypes) {
    for (const Heads& shape : {Heads{6, 2, 14}, Heads{3, 1, 128}}) {
      const int64_t count = 290;
      const auto ops = ops_for(GetParam());
      const Rope rope = rope_of(*ops, count, shape.dim);
      const Stream stream(shape, count, dtype, 5);
      const View queries = place(*ops, stream.q, DType::kF32);
      const View keys = place(*ops, stream.k, DType::kF32);
      const View values = place(*ops, stream.v, DType::kF32);
      const Array nothing = constant(count, stream.k.cols, std::numeric_limits<double>::quiet_NaN());
      const View garbage = place(*ops, nothing, DType::kF32);

      for (const int32_t valid : {1, 2, 7, 31, 255, 257, 273}) {
        const auto clean = ops->make_kv_cache({1, count, shape.kv_heads, shape.dim, dtype});
        const auto dirty = ops->make_kv_cache({1, count, shape.kv_heads, shape.dim, dtype});
        ops->append_kv(*dirty, garbage, garbage, rope, consecutive(count));
        for (KvCache* cache : {clean.get(), dirty.get()}) {
          ops->append_kv(*cache, keys.slice_rows(0, valid), values.slice_rows(0, valid), rope, consecutive(valid));
        }
        const View expected = place(*ops, Array(valid, queries.cols), DType::kF32);
        ops->attend(expected, queries.slice_rows(0, valid), rope, *clean, consecutive(valid));
        // In the company of a row that does see the garbage.
        const View out = place(*ops, Array(valid + 1, queries.cols), DType::kF32);
        ops->attend(out, queries.slice_rows(0, valid + 1), rope, *dirty, consecutive(valid + 1));
        ASSERT_TRUE(same_bits(read(*ops, out.slice_rows(0, valid)), read(*ops, expected))) << valid << " rows";
      }
    }
  }
}

// Wherever the blocks of two streams lie: the bits of a cache without a table, also after blocks went to the host and
// came back to other places.
TEST_P(EveryIsa, attend_does_not_depend_on_where_blocks_lie) {
  const auto ops = ops_for(GetParam(), 2);
  const int64_t count = 700;
  const std::vector<std::vector<int32_t>> places{{5, 0, 3}, {1, 4, 2}};
  for (const DType dtype : kCacheTypes) {
    const Heads shape{6, 2, 34};
    const Rope rope = rope_of(*ops, count, shape.dim);
    const auto table = ops->make_kv_table(2, 3);
    const auto plain = ops->make_kv_cache({2, count, shape.kv_heads, shape.dim, dtype});
    const auto paged = ops->make_kv_cache({2, count, shape.kv_heads, shape.dim, dtype, 6}, table.get());
    for (int64_t s = 0; s < 2; ++s) {
      for (int64_t block = 0; block < 3; ++block) {
        ops->set_kv_places(*table, s, block, std::span(places[static_cast<size_t>(s)]).subspan(block, 1));
      }
      const View k = place(*ops, random_array(count, shape.kv_heads * shape.dim, 1 + s), DType::kF32);
      const View v = place(*ops, random_array(count, shape.kv_heads * shape.dim, 3 + s), DType::kF32);
      for (KvCache* cache : {plain.get(), paged.get()}) {
        ops->append_kv(*cache, k, v, rope, consecutive(count, 0, static_cast<int32_t>(s)));
      }
    }
    const std::vector<Row> rows{{0, 0}, {1, 255}, {0, 256}, {1, 511}, {0, 512}, {1, 699}, {0, 698}};
    const auto rows_count = static_cast<int64_t>(rows.size());
    const View q = place(*ops, random_array(rows_count, shape.heads * shape.dim, 5), DType::kF32);
    const View out = place(*ops, Array(rows_count, shape.heads * shape.dim), DType::kF32);
    const auto attend = [&](const KvCache& cache) {
      ops->attend(out, q, rope, cache, rows);
      return read(*ops, out);
    };
    const std::vector<float> expected = attend(*plain);
    EXPECT_TRUE(same_bits(attend(*paged), expected)) << dtype_name(dtype);

    std::vector<std::byte> kept(static_cast<size_t>(ops->kv_block_bytes(*paged)));
    ops->download_kv(kept, *paged, 0);
    std::vector<std::byte> other(kept.size(), std::byte{0x77});
    ops->upload_kv(*paged, 0, other);
    EXPECT_FALSE(same_bits(attend(*paged), expected));
    ops->download_kv(other, *paged, 2);
    ops->upload_kv(*paged, 2, kept);
    ops->upload_kv(*paged, 0, other);
    const std::vector<int32_t> swapped{2, 0};
    ops->set_kv_places(*table, 0, 1, std::span(swapped).first(1));
    ops->set_kv_places(*table, 1, 2, std::span(swapped).last(1));
    EXPECT_TRUE(same_bits(attend(*paged), expected)) << dtype_name(dtype);
  }
}

TEST_P(EveryIsa, repeated_row_stands_for_its_positions) {
  const auto ops = ops_for(GetParam());
  const Heads shape{4, 2, 24};
  const int32_t count = 37;
  const Rope rope = rope_of(*ops, count, shape.dim);
  for (const DType dtype : kCacheTypes) {
    const Array k = random_array(1, shape.kv_heads * shape.dim, 1);
    const Array v = random_array(1, shape.kv_heads * shape.dim, 2);
    const Array q = random_array(1, shape.heads * shape.dim, 3);
    Array many_k(count - 3, k.cols), many_v(count - 3, k.cols);
    for (int64_t r = 0; r < many_k.rows; ++r) {
      for (int64_t c = 0; c < k.cols; ++c) {
        many_k.at(r, c) = k.at(0, c);
        many_v.at(r, c) = v.at(0, c);
      }
    }
    std::vector<std::vector<float>> results;
    for (const bool repeat : {true, false}) {
      const auto cache = ops->make_kv_cache({1, count, shape.kv_heads, shape.dim, dtype});
      const Array before_k = random_array(3, k.cols, 4);
      const Array before_v = random_array(3, k.cols, 5);
      ops->append_kv(*cache, place(*ops, before_k, DType::kF32), place(*ops, before_v, DType::kF32), rope,
                     consecutive(3));
      if (repeat) {
        const std::vector<Row> rows{{0, 3, count - 3}};
        ops->append_kv(*cache, place(*ops, k, DType::kF32), place(*ops, v, DType::kF32), rope, rows);
      } else {
        ops->append_kv(*cache, place(*ops, many_k, DType::kF32), place(*ops, many_v, DType::kF32), rope,
                       consecutive(count - 3, 3));
      }
      const View out = place(*ops, Array(1, q.cols), DType::kF32);
      ops->attend(out, place(*ops, q, DType::kF32), rope, *cache, consecutive(1, count - 1));
      results.push_back(read(*ops, out));
    }
    EXPECT_TRUE(same_bits(results[0], results[1]));
  }
}

TEST_P(EveryIsa, attend_all_agrees_with_float64) {
  const auto ops = ops_for(GetParam());
  for (const DType dtype : kCacheTypes) {
    for (const Heads& shape : {Heads{3, 3, 24}, Heads{1, 1, 16}, Heads{2, 2, 42}, Heads{1, 1, 128}, Heads{2, 2, 14}}) {
      for (const int64_t count : {1, 37, 256, 301}) {
        SCOPED_TRACE(testing::Message() << dtype_name(dtype) << " " << shape.heads << " x " << shape.dim << ", "
                                        << count << " rows");
        const int64_t width = shape.heads * shape.dim;
        const Array q = random_array(count, width, 1);
        const Array k = random_array(count, width, 2);
        const Array v = random_array(count, width, 3);
        const Array cos = cosines(count, shape.dim / 2, false), sin = cosines(count, shape.dim / 2, true);
        std::vector<int32_t> positions;
        for (int32_t i = 0; i < count; ++i) positions.push_back(i);
        const std::vector<int64_t> counts(static_cast<size_t>(count), count);
        const Array want = oracle::attention(rounded(oracle::rotated(q, cos, sin, positions), dtype),
                                             rounded(oracle::rotated(k, cos, sin, positions), dtype), rounded(v, dtype),
                                             shape.heads, shape.heads, counts);
        const View out = place(*ops, Array(count, width), dtype);
        ops->attend_all(out, place(*ops, q, DType::kF32, 1), place(*ops, k, DType::kF32, 2),
                        place(*ops, v, DType::kF32, 3), rope_of(*ops, count, shape.dim), shape.heads, 1);
        expect_near(read_array(*ops, out), want, constant(count, width, greatest(v)), half_ulp(dtype),
                    tolerance(dtype));
      }
    }
  }
}

TEST_P(EveryIsa, attend_all_row_does_not_depend_on_the_other_queries_or_threads) {
  for (const DType dtype : kCacheTypes) {
    const int64_t count = 301;
    const Array q = random_array(count, 2 * 24, 1);
    const Array k = random_array(count, 2 * 24, 2);
    const Array v = random_array(count, 2 * 24, 3);
    std::vector<float> expected;
    for (const int threads : {1, 2, 3, 7}) {
      const auto ops = ops_for(GetParam(), threads);
      const Rope rope = identity_rope(*ops, count, 24);  // a part's rows stand at other positions
      const View queries = place(*ops, q, DType::kF32);
      const View keys = place(*ops, k, DType::kF32);
      const View values = place(*ops, v, DType::kF32);
      const View out = place(*ops, Array(count, q.cols), dtype);
      ops->attend_all(out, queries, keys, values, rope, 2, 1);
      if (threads == 1) expected = read(*ops, out);
      ASSERT_TRUE(same_bits(read(*ops, out), expected));
      for (const int64_t first : {0, 1, 47, 200}) {
        for (const int64_t rows : {1, 2, 5, 50}) {
          const View part = place(*ops, Array(rows, q.cols), dtype);
          ops->attend_all(part, queries.slice_rows(first, rows), keys, values, rope, 2, 1);
          const auto begin = expected.begin() + first * q.cols;
          ASSERT_TRUE(same_bits(read(*ops, part), {begin, begin + rows * q.cols}));
        }
      }
    }
  }
}

TEST_P(EveryIsa, attend_all_of_windows_is_attend_all_of_each) {
  const auto ops = ops_for(GetParam());
  const int64_t rows = 37, windows = 3, width = 2 * 24;
  const Rope rope = rope_of(*ops, rows, 24);
  for (const DType dtype : kCacheTypes) {
    const View queries = place(*ops, random_array(windows * rows, width, 1), DType::kF32);
    const View values = place(*ops, random_array(windows * rows, width, 2), DType::kF32);
    const View all = place(*ops, Array(windows * rows, width), dtype);
    ops->attend_all(all, queries, queries, values, rope, 2, windows);
    for (int64_t first = 0; first < windows * rows; first += rows) {
      const View one = place(*ops, Array(rows, width), dtype);
      const View asking = queries.slice_rows(first, rows);
      ops->attend_all(one, asking, asking, values.slice_rows(first, rows), rope, 2, 1);
      EXPECT_TRUE(same_bits(read(*ops, one), read(*ops, all.slice_rows(first, rows))));
    }
  }
}

}  // namespace
}  // namespace heartmula::testing_cpu

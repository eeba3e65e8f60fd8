// out = softmax(scale * q K^T) V for some heads of some rows that share keys and values, each over its own [0, count).
//
// Keys are taken in blocks of kBlock positions counted from position 0; a block gives its greatest score, its sum of
// exponentials and its weighted values, and blocks are combined in ascending order. So a row's bits depend on its
// count alone, neither on the other rows nor on what lies behind its last key. Probabilities are f32.
// Contract: kernels.h; queries of equal count should stand together. The scratch is attend_scratch_bytes long and
// 64-byte aligned.
#include "cpu/kernels/rotate.h"
#include "cpu/kernels/tile.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

constexpr int64_t kBlock = 256;
constexpr int64_t kScorePitch = kBlock + 16;

/// What a row has gathered from the blocks so far.
struct Gathered {
  float max;
  float sum;
  float keep;  // factor of the old values when a block is added
  float take;  // factor of the block's
};

struct Scratch {
  void* queries;  // [count][query_pitch], in the keys' dtype
  int64_t query_pitch;
  float* scores;       // [count][kScorePitch]
  float* values;       // [count][value_stride]
  Gathered* gathered;  // [count]
};

template <class K>
int64_t query_pitch(const KeyValues& kv) {
  return round_up(kv.head_dim, 16) + 16 * K::kActivations;
}

float exp_one(float x) {
  return hn::GetLane(exp(set(x)));
}

/// Rotates the queries and rounds them to the keys' dtype. `rotated` is scratch of head_dim floats.
template <class K>
void stage_queries(typename K::Activation* to, int64_t pitch, const KeyValues& kv, const Query* queries, int64_t count,
                   float* rotated) {
  for (int64_t i = 0; i < count; ++i, to += pitch) {
    rotate(rotated, queries[i].q, queries[i].cos, queries[i].sin, kv.head_dim);
    for (int64_t d = 0; d < kv.head_dim; d += kLanes) {
      const F q = load_first(rotated + d, kv.head_dim - d);
      if (kv.element == Element::kBF16) {
        HWY_ALIGN uint16_t rounded[kLanes];
        store(q, rounded);
        store_first(load(rounded), to + d, kv.head_dim - d);
      } else {
        store_first(q, to + d, kv.head_dim - d);
      }
    }
  }
}

/// scores[rows][positions] = q K^T for whole panels of keys.
template <class K>
void score(const typename K::Activation* q, int64_t pitch, const typename K::Stored* keys, int64_t words,
           int64_t panels, float* scores, int64_t rows) {
  const int64_t panel_stride = words * kPanel;
  const auto tile = [&]<int R, int P>(int64_t row, int64_t panel) HWY_ATTR {
    F acc[R][P * kVectors];
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int v = 0; v < P * kVectors; ++v) acc[r][v] = zero();
    }
    accumulate<K, R, P * kVectors>(acc, q + row * pitch, pitch, keys + panel * panel_stride, kPanel, panel_stride,
                                   words);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int v = 0; v < P * kVectors; ++v) {
        store(acc[r][v], scores + (row + r) * kScorePitch + panel * kPanel + v * kLanes);
      }
    }
  };
  for_each_tile_and_panel(rows, panels, tile);
}

/// Scores to exponentials of the distance to the block's greatest, and what that means for the row.
void exponentials(float* scores, int64_t count, float scale, Gathered& row) {
  const F lowest = set(-__builtin_huge_valf());
  F greatest = lowest;
  for (int64_t i = 0; i < count; i += kLanes) {
    const F s = load(scores + i);
    greatest = hn::Max(greatest, hn::IfThenElse(hn::FirstN(DF(), static_cast<size_t>(count - i)), s, lowest));
  }
  const float block_max = hn::GetLane(hn::MaxOfLanes(DF(), greatest));
  F sums = zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    const F e = exp(hn::Mul(hn::Sub(load(scores + i), set(block_max)), set(scale)));
    const F kept = hn::IfThenElseZero(hn::FirstN(DF(), static_cast<size_t>(count - i)), e);
    store(kept, scores + i);
    sums = hn::Add(sums, kept);
  }
  const float max = row.max > block_max ? row.max : block_max;
  row.keep = exp_one((row.max - max) * scale);
  row.take = exp_one((block_max - max) * scale);
  row.sum = row.sum * row.keep + sum_lanes(sums) * row.take;
  row.max = max;
}

/// values[rows][hd] = keep * values + take * (scores V)
template <class V>
void weigh(const float* scores, const typename V::Stored* v, int64_t value_stride, int64_t positions, float* values,
           const Gathered* gathered, int64_t rows) {
  const auto tile = [&]<int R, int P>(int64_t row, int64_t panel) HWY_ATTR {
    F acc[R][P * kVectors];
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      HWY_UNROLL(8)
      for (int i = 0; i < P * kVectors; ++i) acc[r][i] = zero();
    }
    accumulate<V, R, P * kVectors>(acc, scores + row * kScorePitch, kScorePitch, v + panel * kPanel, value_stride,
                                   kPanel, positions);
    HWY_UNROLL(16)
    for (int r = 0; r < R; ++r) {
      const F keep = set(gathered[row + r].keep);
      const F take = set(gathered[row + r].take);
      HWY_UNROLL(8)
      for (int i = 0; i < P * kVectors; ++i) {
        float* place = values + (row + r) * value_stride + panel * kPanel + i * kLanes;
        store(hn::MulAdd(load(place), keep, hn::Mul(acc[r][i], take)), place);
      }
    }
  };
  for_each_tile_and_panel(rows, value_stride / kPanel, tile);
}

/// One block of keys for rows that all see `positions` of it.
template <class K, class V>
void add_block(const KeyValues& kv, const Scratch& s, int64_t row, int64_t rows, int64_t first, int64_t positions) {
  const int64_t words = kv.head_dim / K::kActivations;
  const auto* keys = static_cast<const typename K::Stored*>(kv.keys) + first * words;
  const auto* values = static_cast<const typename V::Stored*>(kv.values) + first * kv.value_stride;
  const auto* queries = static_cast<const typename K::Activation*>(s.queries) + row * s.query_pitch;
  float* scores = s.scores + row * kScorePitch;
  score<K>(queries, s.query_pitch, keys, words, (positions + kPanel - 1) / kPanel, scores, rows);
  for (int64_t r = 0; r < rows; ++r) exponentials(scores + r * kScorePitch, positions, kv.scale, s.gathered[row + r]);
  weigh<V>(scores, values, kv.value_stride, positions, s.values + row * kv.value_stride, s.gathered + row, rows);
}

template <class K>
Scratch lay_out(const KeyValues& kv, int64_t count, void* scratch) {
  Scratch s;
  s.query_pitch = query_pitch<K>(kv);
  s.queries = scratch;
  s.scores = static_cast<float*>(scratch) + count * s.query_pitch;
  s.values = s.scores + count * kScorePitch;
  s.gathered = reinterpret_cast<Gathered*>(s.values + count * kv.value_stride);
  return s;
}

template <class K, class V>
void attend_rows(const KeyValues& kv, const Query* queries, int64_t count, Element out, void* scratch) {
  const Scratch s = lay_out<K>(kv, count, scratch);
  stage_queries<K>(static_cast<typename K::Activation*>(s.queries), s.query_pitch, kv, queries, count, s.values);
  int64_t longest = 0;
  for (int64_t i = 0; i < count; ++i) {
    s.gathered[i] = {-__builtin_huge_valf(), 0.0F, 0.0F, 0.0F};
    for (int64_t d = 0; d < kv.value_stride; d += kLanes) store(zero(), s.values + i * kv.value_stride + d);
    if (queries[i].count > longest) longest = queries[i].count;
  }

  for (int64_t first = 0; first < longest; first += kBlock) {
    const auto visible = [&](int64_t i) { return least(kBlock, queries[i].count - first); };
    for (int64_t begin = 0; begin < count;) {
      int64_t end = begin + 1;
      while (end < count && visible(end) == visible(begin)) ++end;
      if (visible(begin) > 0) add_block<K, V>(kv, s, begin, end - begin, first, visible(begin));
      begin = end;
    }
  }

  for (int64_t i = 0; i < count; ++i) {
    const F sum = set(s.gathered[i].sum);
    typed(Strip{queries[i].out, out}, [&](auto* to) HWY_ATTR {
      for (int64_t d = 0; d < kv.head_dim; d += kLanes) {
        store_first(hn::Div(load(s.values + i * kv.value_stride + d), sum), to + d, kv.head_dim - d);
      }
    });
  }
}

}  // namespace

void attend(const KeyValues& kv, const Query* queries, int64_t count, Element out, void* scratch) {
  if (kv.element == Element::kF32) {
    attend_rows<WeightsF32, WeightsF32>(kv, queries, count, out, scratch);
  } else {
    attend_rows<WeightsPairs, WeightsBF16>(kv, queries, count, out, scratch);
  }
}

size_t attend_scratch_bytes(const KeyValues& kv, int64_t count) {
  const int64_t floats = query_pitch<WeightsPairs>(kv) + kScorePitch + kv.value_stride;
  return static_cast<size_t>(count) * (static_cast<size_t>(floats) * sizeof(float) + sizeof(Gathered));
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

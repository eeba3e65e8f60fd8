// What attention keeps of the rows of one call: queries, scores and weights in scratch, and rows of parts.
#pragma once

#include "cpu/kernels/key_blocks.h"
#include "cpu/kernels/rotate.h"
#include "cpu/kernels/softmax.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

constexpr int64_t kScorePitch = kKeyBlock + 16;
constexpr int64_t kQueryPadding = 16;  // words, against rows that fall into the same cache sets

HWY_INLINE int64_t value_width(const KeyValues& kv) {
  return round_up(kv.head_dim, kPanel);
}

/// Words from one panel of the values of a block to the next.
template <class V>
int64_t value_panel_stride(const KeyValues& kv, int64_t block) {
  return positions_of(kv, block) / V::kActivations * kPanel;
}

/// Floats of a row of parts.
HWY_INLINE int64_t part_pitch(const KeyValues& kv) {
  return value_width(kv) + 16;
}

HWY_INLINE Softmax* softmax_of(const KeyValues& kv, float* part) {
  return reinterpret_cast<Softmax*>(part + value_width(kv));
}

template <class K>
int64_t query_pitch(const KeyValues& kv) {
  return round_up(kv.head_dim, 16) + kQueryPadding * K::kActivations;
}

/// What is computed of the rows of one call, in scratch. K and V are the policies (tile.h) of the products with keys
/// and with values.
template <class K, class V>
struct Rows {
  const KeyValues& kv;
  int64_t count;
  typename K::Activation* queries;  // [count][query_pitch], rotated, in the keys' dtype
  float* scores;                    // [count][kScorePitch], of one block
  typename V::Activation* weights;  // [count][kScorePitch]; in the scores' place if they are floats
  int64_t* visible;                 // [count]: positions of the block that the row sees
};

template <class V>
constexpr bool kWeightsApart = sizeof(typename V::Activation) != sizeof(float);

template <class K, class V>
size_t rows_bytes(const KeyValues& kv, int64_t count) {
  const size_t row = static_cast<size_t>(query_pitch<K>(kv)) * sizeof(typename K::Activation) +
                     kScorePitch * (sizeof(float) + (kWeightsApart<V> ? sizeof(typename V::Activation) : 0)) +
                     sizeof(int64_t);
  return (static_cast<size_t>(count) * row + 63) / 64 * 64;
}

/// Lays out the scratch and puts the queries there, rotated and rounded.
template <class K, class V>
Rows<K, V> stage(const KeyValues& kv, const Query* queries, int64_t count, void* scratch) {
  const int64_t pitch = query_pitch<K>(kv);
  Rows<K, V> rows{kv, count, static_cast<typename K::Activation*>(scratch), nullptr, nullptr, nullptr};
  rows.scores = reinterpret_cast<float*>(rows.queries + count * pitch);
  rows.weights = reinterpret_cast<typename V::Activation*>(rows.scores + (kWeightsApart<V> ? count * kScorePitch : 0));
  rows.visible = reinterpret_cast<int64_t*>(rows.weights + count * kScorePitch);
  HWY_ALIGN float rotated[kRotatePiece];
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t first = 0; first < kv.head_dim; first += kRotatePiece) {
      const int64_t piece = least(kRotatePiece, kv.head_dim - first);
      rotate(rotated, queries[i].q + first, queries[i].cos + first / 2, queries[i].sin + first / 2, piece);
      typename K::Activation* to = rows.queries + i * pitch + first;
      for (int64_t d = 0; d < piece; d += kLanes) {
        F q = load_first(rotated + d, piece - d);
        if (kv.element == Element::kBF16) q = round_bf16(q);
        store_first(q, to + d, piece - d);
      }
    }
  }
  return rows;
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

// out = softmax(scale * rotated(q) K^T) V for some heads of some rows that share keys and values, each over its own
// [0, count).
//
// Keys are taken in blocks of kKeyBlock positions counted from position 0. A block gives a row a part: the greatest
// score, the sum of the exponentials of the distances to it, and the values weighted by these; parts are joined in
// ascending order of the blocks. So a row's bits depend on its count alone: neither on the other rows, nor on what lies
// behind its last key, nor on who computed which block. Weights are rounded to the type that the values are multiplied
// in: f32, or bf16 where there is an instruction for products of bf16.
// Contract: kernels.h. Rows of similar count should stand together. Scratch and parts are 64-byte aligned.
#include "cpu/kernels/attention_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

int64_t blocks_of(const Query* queries, int64_t count) {
  int64_t longest = 0;
  for (int64_t i = 0; i < count; ++i) longest = queries[i].count > longest ? queries[i].count : longest;
  return (longest + kKeyBlock - 1) / kKeyBlock;
}

/// What a block gives each row that sees any of it, into `parts` [count][part_pitch]. `on`: the next block comes next.
template <class K, class V>
void add_up_block(const Rows<K, V>& rows, const Query* queries, int64_t block, bool on, float* parts) {
  const KeyValues& kv = rows.kv;
  const int64_t first = block * kKeyBlock;
  int64_t longest = 0;
  for (int64_t i = 0; i < rows.count; ++i) {
    const int64_t left = queries[i].count - first;
    rows.visible[i] = left < 0 ? 0 : least(left, kKeyBlock);
    longest = left > longest ? left : longest;
  }
  score(rows, block, least(longest, kKeyBlock));
  for (int64_t i = 0; i < rows.count; ++i) {
    if (rows.visible[i] == 0) continue;
    *softmax_of(kv, parts + i * part_pitch(kv)) =
        exponentials(rows.scores + i * kScorePitch, rows.weights + i * kScorePitch, rows.visible[i], kv.scale * kLog2E);
  }
  weigh_block(rows, block, on, parts);
}

/// Joins a row of parts with that of the blocks before.
void join(const KeyValues& kv, float* sums, float* part) {
  Softmax& all = *softmax_of(kv, sums);
  const Softmax& more = *softmax_of(kv, part);
  const float max = all.max > more.max ? all.max : more.max;
  const F keep = exp2_of_negative(set(all.max - max));
  const F take = exp2_of_negative(set(more.max - max));
  all = {max, all.sum * hn::GetLane(keep) + more.sum * hn::GetLane(take)};
  for (int64_t d = 0; d < value_width(kv); d += kLanes) {
    store(hn::MulAdd(load(sums + d), keep, hn::Mul(load(part + d), take)), sums + d);
  }
}

void finish(const KeyValues& kv, float* sums, const Query& query, Element out) {
  const F sum = set(softmax_of(kv, sums)->sum);
  typed(Strip{query.out, out}, [&](auto* to) HWY_ATTR {
    for (int64_t d = 0; d < kv.head_dim; d += kLanes) {
      store_first(hn::Div(load(sums + d), sum), to + d, kv.head_dim - d);
    }
  });
}

/// The whole of a few rows.
template <class K, class V>
void attend_rows(const KeyValues& kv, const Query* queries, int64_t count, Element out, void* scratch) {
  const Rows<K, V> rows = stage<K, V>(kv, queries, count, scratch);
  const int64_t pitch = part_pitch(kv);
  auto* sums = reinterpret_cast<float*>(static_cast<char*>(scratch) + rows_bytes<K, V>(kv, count));
  float* parts = sums + count * pitch;
  const int64_t blocks = blocks_of(queries, count);
  add_up_block(rows, queries, 0, 1 < blocks, sums);
  for (int64_t block = 1; block < blocks; ++block) {
    add_up_block(rows, queries, block, block + 1 < blocks, parts);
    for (int64_t i = 0; i < count; ++i) {
      if (rows.visible[i] > 0) join(kv, sums + i * pitch, parts + i * pitch);
    }
  }
  for (int64_t i = 0; i < count; ++i) finish(kv, sums + i * pitch, queries[i], out);
}

/// Some blocks of a few rows.
template <class K, class V>
void attend_blocks(const KeyValues& kv, const Query* queries, int64_t count, const BlockRange& blocks, void* scratch) {
  const Rows<K, V> rows = stage<K, V>(kv, queries, count, scratch);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    add_up_block(rows, queries, block, block + 1 < blocks.end, blocks.parts + block * blocks.stride);
  }
}

/// Calls body.template operator()<K, V>() with the policies for keys and values of this element type.
template <class Body>
HWY_INLINE auto with_policies(Element element, const Body& body) {
  return element == Element::kF32 ? body.template operator()<WeightsF32, WeightsF32>()
                                  : body.template operator()<Pairs, Pairs>();
}

}  // namespace

void attend(const KeyValues& kv, const Query* queries, int64_t count, Element out, void* scratch) {
  with_policies(kv.element, [&]<class K, class V>() HWY_ATTR { attend_rows<K, V>(kv, queries, count, out, scratch); });
}

void attend_blocks(const KeyValues& kv, const Query* queries, int64_t count, const BlockRange& blocks, void* scratch) {
  with_policies(kv.element,
                [&]<class K, class V>() HWY_ATTR { attend_blocks<K, V>(kv, queries, count, blocks, scratch); });
}

void attend_join(const KeyValues& kv, const Query* queries, int64_t count, const BlockRange& blocks, Element out) {
  const int64_t pitch = part_pitch(kv);
  for (int64_t i = 0; i < count; ++i) {
    float* sums = blocks.parts + i * pitch;
    for (int64_t block = 1; block < blocks_of(queries + i, 1); ++block) {
      join(kv, sums, sums + block * blocks.stride);
    }
    finish(kv, sums, queries[i], out);
  }
}

int64_t attend_part_floats(const KeyValues& kv) {
  return part_pitch(kv);
}

size_t attend_scratch_bytes(const KeyValues& kv, int64_t count) {
  return with_policies(kv.element, [&]<class K, class V>() { return rows_bytes<K, V>(kv, count); }) +
         static_cast<size_t>(2 * count * part_pitch(kv)) * sizeof(float);
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

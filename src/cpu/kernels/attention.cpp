// out = softmax(scale * rotated(q) K^T) V for some heads of some rows that share keys and values, each over its own
// [0, count).
//
// Keys are taken in blocks of kKeyBlock positions counted from position 0. A block gives a row a part: the greatest
// score, the sum of the exponentials of the distances to it, and the values weighted by these; parts are joined in
// ascending order of the blocks. So a row's bits depend on its count alone: neither on the other rows, nor on what lies
// behind its last key, nor on who computed which block. Weights are rounded to the type that the values are multiplied
// in: f32, or bf16 where there is an instruction for products of bf16.
// Contract: kernels.h. Rows of similar count should stand together. Scratch and parts are 64-byte aligned.
#include "cpu/kernels/pairs_avx2.h"
#include "cpu/kernels/rotate.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

constexpr int64_t kScorePitch = kKeyBlock + 16;
constexpr int64_t kQueryPadding = 16;  // words, against rows that fall into the same cache sets
/// So few rows leave the memory as the limit: what comes next is fetched meanwhile.
constexpr int kStreamingRows = kTileRows < 6 ? 3 : kTileRows / 2;
/// Rows beside two panels of keys or values; so many sums and the rest fit into the registers.
template <class W>
constexpr int kPairRows = HWY_ARCH_ARM || (W::kActivations == 2 && kLanes == 8) ? 2 : kStreamingRows;
constexpr float kLog2E = 1.44269504F;

/// Of a row's scores so far, or of those of one block; it stands behind the weighted values in a row of parts.
struct Softmax {
  float max;  // score, times scale and log2(e)
  float sum;  // of 2^(score - max)
};

int64_t value_width(const KeyValues& kv) {
  return round_up(kv.head_dim, kPanel);
}

/// Words from one panel of the values of the block at `first` to the next.
template <class V>
int64_t value_panel_stride(const KeyValues& kv, int64_t first) {
  return least(kKeyBlock, kv.capacity - first) / V::kActivations * kPanel;
}

/// Floats of a row of parts.
int64_t part_pitch(const KeyValues& kv) {
  return value_width(kv) + 16;
}

Softmax* softmax_of(const KeyValues& kv, float* part) {
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

/// Memory that will be needed next, laid out in panels as the weights of a tile are.
struct Upcoming {
  const void* place;
  int64_t panel_bytes;  // from one panel to the next
};

/// acc += a W over `steps` steps, as accumulate does; with kFetch, the step's place in `ahead` is fetched into the
/// second cache, but not on arm64, whose tile takes several steps at once.
template <class W, bool kFetch, int R, int N>
HWY_INLINE void accumulate_ahead(F (&acc)[R][N], const typename W::Activation* a, int64_t a_stride,
                                 const typename W::Stored* w, int64_t panel_stride, int64_t steps,
                                 const Upcoming& ahead) {
  if constexpr (kFetch && !HWY_ARCH_ARM) {
    constexpr int kStepBytes = kPanel * static_cast<int>(sizeof(typename W::Stored));
    const char* place = static_cast<const char*>(ahead.place);
    for (int64_t k = 0; k < steps; ++k) {
      HWY_UNROLL(2)
      for (int p = 0; p < N / kVectors; ++p) {
        HWY_UNROLL(2)
        for (int i = 0; i < kStepBytes; i += 64) __builtin_prefetch(place + p * ahead.panel_bytes + i, 0, 2);
      }
      accumulate<W, R, N>(acc, a + k * W::kActivations, a_stride, w + k * kPanel, kPanel, panel_stride, 1);
      place += kStepBytes;
    }
  } else {
    accumulate<W, R, N>(acc, a, a_stride, w, kPanel, panel_stride, steps);
  }
}

template <int R, int N>
HWY_INLINE void clear(F (&acc)[R][N]) {
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < N; ++v) acc[r][v] = zero();
  }
}

template <int R, int N>
HWY_INLINE void put(const F (&acc)[R][N], float* to, int64_t pitch) {
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < N; ++v) store(acc[r][v], to + r * pitch + v * kLanes);
  }
}

/// Covers [0, rows) x [0, panels) with tiles of R rows and P panels: body.template operator()<R, P, kFetch>(row,
/// panel). Few rows take two panels side by side, for one alone has too few chains to hide the latency of an addition.
template <class W, class Body>
HWY_INLINE void for_each_tile_of(int64_t rows, int64_t panels, const Body& body) {
  if (rows <= kStreamingRows) {
    with_rows<kStreamingRows>(rows, [&]<int R>() HWY_ATTR {
      constexpr int P = R <= kPairRows<W> ? 2 : 1;
      int64_t panel = 0;
      for (; panel + P <= panels; panel += P) body.template operator()<R, P, true>(0, panel);
      if (panel < panels) body.template operator()<R, 1, true>(0, panel);
    });
    return;
  }
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t i = 0; i < tiles; ++i) {  // as equal as can be
      const int64_t row = rows * i / tiles;
      with_rows<kTileRows>(rows * (i + 1) / tiles - row,
                           [&]<int R>() HWY_ATTR { body.template operator()<R, 1, false>(row, panel); });
    }
  }
}

// Tiles are functions of their own: inlined among others, g++ 12 runs out of registers.

template <class K, int R, int P, bool kFetch>
HWY_NOINLINE void score_tile(float* scores, const typename K::Activation* q, int64_t q_pitch,
                             const typename K::Stored* keys, int64_t words, const Upcoming& ahead) {
  F acc[R][P * kVectors];
  clear(acc);
  accumulate_ahead<K, kFetch>(acc, q, q_pitch, keys, words * kPanel, words, ahead);
  put(acc, scores, kScorePitch);
}

/// scores = q K^T of the block at `first`, for whole panels of keys, as far as any row of a tile sees.
template <class K, class V>
void score(const Rows<K, V>& rows, int64_t first, int64_t longest) {
  const KeyValues& kv = rows.kv;
  const int64_t words = kv.head_dim / K::kActivations;
  const int64_t pitch = query_pitch<K>(kv);
  const auto* keys = static_cast<const typename K::Stored*>(kv.keys) + first * words;
  const auto* values = static_cast<const typename V::Stored*>(kv.values) + first / V::kActivations * value_width(kv);
  const int64_t panels = (longest + kPanel - 1) / kPanel;
  for_each_tile_of<K>(rows.count, panels, [&]<int R, int P, bool kFetch>(int64_t row, int64_t panel) HWY_ATTR {
    int64_t most = 0;
    for (int r = 0; r < R; ++r) most = rows.visible[row + r] > most ? rows.visible[row + r] : most;
    if (panel * kPanel >= most) return;
    const typename K::Stored* place = keys + panel * words * kPanel;
    const Upcoming next_keys{place + P * words * kPanel, words * kPanel * int64_t{sizeof(typename K::Stored)}};
    const Upcoming first_values{values, value_panel_stride<V>(kv, first) * int64_t{sizeof(typename V::Stored)}};
    score_tile<K, R, P, kFetch>(rows.scores + row * kScorePitch + panel * kPanel, rows.queries + row * pitch, pitch,
                                place, words, panel + P < panels ? next_keys : first_values);
  });
}

/// 2^x for x <= 0 within 2.5 ulp; 2^-126 below -126.
HWY_INLINE F exp2_of_negative(F x) {
  x = hn::Max(set(-126.0F), x);                  // in this order a NaN stays one on x86
  const F shifted = hn::Add(x, set(0x1.8p23F));  // the nearest integer in the lowest bits
  const F f = hn::Sub(x, hn::Sub(shifted, set(0x1.8p23F)));
  F p = set(1.32646989e-3F);  // minimax over [-1/2, 1/2]: 0.8 ulp
  p = hn::MulAdd(p, f, set(9.67153348e-3F));
  p = hn::MulAdd(p, f, set(5.55073395e-2F));
  p = hn::MulAdd(p, f, set(0.240222424F));
  p = hn::MulAdd(p, f, set(0.693147004F));
  p = hn::MulAdd(p, f, set(1.0F));
  return hn::BitCast(DF(), hn::Add(hn::BitCast(DU(), p), hn::ShiftLeft<23>(hn::BitCast(DU(), shifted))));
}

/// Stores a weight and returns what was stored, for the sum is one of rounded weights.
HWY_INLINE F store_weight(F weight, float* to) {
  store(weight, to);
  return weight;
}
[[maybe_unused]] HWY_INLINE F store_weight(F weight, uint16_t* to) {  // not where bf16 is widened
  store(weight, to);
  return load(to);
}

/// weights = 2^(scores * scale - max) of one row; zero up to the next whole vector.
template <typename Weight>
Softmax exponentials(const float* scores, Weight* weights, int64_t count, float scale) {
  const int64_t whole = count / kLanes * kLanes;
  const auto rest = hn::FirstN(DF(), static_cast<size_t>(count - whole));
  const F lowest = set(-__builtin_huge_valf());
  F greatest = lowest;
  for (int64_t i = 0; i < whole; i += kLanes) greatest = hn::Max(greatest, load(scores + i));
  if (whole < count) greatest = hn::Max(greatest, hn::IfThenElse(rest, load(scores + whole), lowest));
  const F max = hn::Mul(hn::MaxOfLanes(DF(), greatest), set(scale));
  const auto weight = [&](int64_t i)
                          HWY_ATTR { return exp2_of_negative(hn::Sub(hn::Mul(load(scores + i), set(scale)), max)); };
  F sums = zero();
  for (int64_t i = 0; i < whole; i += kLanes) sums = hn::Add(sums, store_weight(weight(i), weights + i));
  if (whole < count) sums = hn::Add(sums, store_weight(hn::IfThenElseZero(rest, weight(whole)), weights + whole));
  return {hn::GetLane(max), hn::GetLane(hn::SumOfLanes(DF(), sums))};
}

/// acc += weights V over the positions [from, to) of a block, from a multiple of V::kActivations.
template <class V, bool kFetch, int R, int N>
HWY_INLINE void weigh(F (&acc)[R][N], const typename V::Activation* weights, const typename V::Stored* values,
                      int64_t panel_stride, int64_t from, int64_t to, const Upcoming& ahead) {
  const int64_t words = (to - from) / V::kActivations;
  values += from / V::kActivations * kPanel;
  accumulate_ahead<V, kFetch>(acc, weights + from, kScorePitch, values, panel_stride, words, ahead);
  if constexpr (V::kActivations == 2) {
    if ((to - from) % 2 == 0) return;
    // The other half of the last word belongs to a position that these rows do not see.
    HWY_ALIGN typename V::Stored last[N * kLanes];
    HWY_ALIGN typename V::Activation pairs[R][2];
    for (int p = 0; p < N / kVectors; ++p) {
      for (int i = 0; i < kPanel; i += kLanes) {
        const U word = load(values + words * kPanel + p * panel_stride + i);
        hn::Store(hn::And(word, hn::Set(DU(), 0xFFFF)), DU(), last + p * kPanel + i);
      }
    }
    for (int r = 0; r < R; ++r) {
      pairs[r][0] = weights[r * kScorePitch + to - 1];
      pairs[r][1] = typename V::Activation{};
    }
    accumulate<V, R, N>(acc, pairs[0], 2, last, kPanel, kPanel, 1);
  }
}

template <class V, int R, int P, bool kFetch>
HWY_NOINLINE void weigh_tile(float* sums, int64_t pitch, const typename V::Activation* weights,
                             const typename V::Stored* values, int64_t panel_stride, int64_t to,
                             const Upcoming& ahead) {
  F acc[R][P * kVectors];
  clear(acc);
  weigh<V, kFetch>(acc, weights, values, panel_stride, 0, to, ahead);
  put(acc, sums, pitch);
}

/// Goes on with one row and panel from where its tile ended.
template <class V>
HWY_NOINLINE void weigh_rest(float* sums, const typename V::Activation* weights, const typename V::Stored* values,
                             int64_t from, int64_t to) {
  F acc[1][kVectors];
  for (int v = 0; v < kVectors; ++v) acc[0][v] = load(sums + v * kLanes);
  weigh<V, false>(acc, weights, values, 0, from, to, {});
  put(acc, sums, 0);
}

/// The weighted values of the block at `first` into rows of parts. `on`: the next block comes next.
template <class K, class V>
void weigh_block(const Rows<K, V>& rows, int64_t first, bool on, float* parts) {
  const KeyValues& kv = rows.kv;
  const int64_t pitch = part_pitch(kv);
  const int64_t panels = value_width(kv) / kPanel;
  const int64_t panel_stride = value_panel_stride<V>(kv, first);
  const auto* values = static_cast<const typename V::Stored*>(kv.values) + first / V::kActivations * value_width(kv);
  const auto* next_keys =
      static_cast<const typename K::Stored*>(kv.keys) + (first + kKeyBlock) * (kv.head_dim / K::kActivations);
  for_each_tile_of<V>(rows.count, panels, [&]<int R, int P, bool kFetch>(int64_t row, int64_t panel) HWY_ATTR {
    int64_t fewest = rows.visible[row];
    int64_t most = fewest;
    for (int r = 1; r < R; ++r) {
      const int64_t visible = rows.visible[row + r];
      fewest = visible < fewest ? visible : fewest;
      most = visible > most ? visible : most;
    }
    // Together as far as all see, and then who sees more alone.
    const int64_t shared = fewest == most ? fewest : fewest / V::kActivations * V::kActivations;
    const typename V::Stored* place = values + panel * panel_stride;
    Upcoming ahead{place, 0};
    if (panel + P < panels) {
      ahead = {place + P * panel_stride, panel_stride * int64_t{sizeof(typename V::Stored)}};
    } else if (on) {
      ahead = {next_keys, shared / V::kActivations * kPanel * int64_t{sizeof(typename V::Stored)}};
    }
    const typename V::Activation* weights = rows.weights + row * kScorePitch;
    float* sums = parts + row * pitch + panel * kPanel;
    weigh_tile<V, R, P, kFetch>(sums, pitch, weights, place, panel_stride, shared, ahead);
    for (int r = 0; r < R && shared < most; ++r) {
      if (rows.visible[row + r] == shared) continue;
      for (int p = 0; p < P; ++p) {
        weigh_rest<V>(sums + r * pitch + p * kPanel, weights + r * kScorePitch, place + p * panel_stride, shared,
                      rows.visible[row + r]);
      }
    }
  });
}

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
  score(rows, first, least(longest, kKeyBlock));
  for (int64_t i = 0; i < rows.count; ++i) {
    if (rows.visible[i] == 0) continue;
    *softmax_of(kv, parts + i * part_pitch(kv)) =
        exponentials(rows.scores + i * kScorePitch, rows.weights + i * kScorePitch, rows.visible[i], kv.scale * kLog2E);
  }
  weigh_block(rows, first, on, parts);
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

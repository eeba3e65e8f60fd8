// The two products of attention, tile by tile: scores = q K^T, and weights times values.
#pragma once

#include "cpu/kernels/attention_rows.h"
#include "cpu/kernels/pairs_avx2.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {

/// So few rows leave the memory as the limit: what comes next is fetched meanwhile.
constexpr int kStreamingRows = kTileRows < 6 ? 3 : kTileRows / 2;
/// Rows beside two panels of keys or values; so many sums and the rest fit into the registers.
template <class W>
constexpr int kPairRows = HWY_ARCH_ARM || (W::kActivations == 2 && kLanes == 8) ? 2 : kStreamingRows;

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

/// scores = q K^T of the block, for whole panels of keys, as far as any row of a tile sees.
template <class K, class V>
void score(const Rows<K, V>& rows, int64_t block, int64_t longest) {
  const KeyValues& kv = rows.kv;
  const int64_t words = kv.head_dim / K::kActivations;
  const int64_t pitch = query_pitch<K>(kv);
  const auto* keys = keys_of<const typename K::Stored>(kv, block);
  const auto* values = values_of<const typename V::Stored>(kv, block);
  const int64_t panels = (longest + kPanel - 1) / kPanel;
  for_each_tile_of<K>(rows.count, panels, [&]<int R, int P, bool kFetch>(int64_t row, int64_t panel) HWY_ATTR {
    int64_t most = 0;
    for (int r = 0; r < R; ++r) most = rows.visible[row + r] > most ? rows.visible[row + r] : most;
    if (panel * kPanel >= most) return;
    const typename K::Stored* place = keys + panel * words * kPanel;
    const Upcoming next_keys{place + P * words * kPanel, words * kPanel * int64_t{sizeof(typename K::Stored)}};
    const Upcoming first_values{values, value_panel_stride<V>(kv, block) * int64_t{sizeof(typename V::Stored)}};
    score_tile<K, R, P, kFetch>(rows.scores + row * kScorePitch + panel * kPanel, rows.queries + row * pitch, pitch,
                                place, words, panel + P < panels ? next_keys : first_values);
  });
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

/// The weighted values of the block into rows of parts. `on`: the next block comes next.
template <class K, class V>
void weigh_block(const Rows<K, V>& rows, int64_t block, bool on, float* parts) {
  const KeyValues& kv = rows.kv;
  const int64_t pitch = part_pitch(kv);
  const int64_t panels = value_width(kv) / kPanel;
  const int64_t panel_stride = value_panel_stride<V>(kv, block);
  const auto* values = values_of<const typename V::Stored>(kv, block);
  const auto* next_keys = on ? keys_of<const typename K::Stored>(kv, block + 1) : nullptr;
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

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

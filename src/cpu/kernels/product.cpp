// out[t] = epilogue(sum over j < taps of W_j a[t + j * dilation]): every matrix product and convolution.
//
// Contract: kernels.h. Any alignment of a and out; out overlaps neither a nor the weights. The scratch is
// product_scratch_bytes long and 64-byte aligned. Each output is one chain over ascending k: where the sum is cut into
// blocks of k that fit the cache, the chain goes on from its partial sum in f32.
#include "cpu/kernels/product_finish.h"
#include "cpu/kernels/product_stage.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

constexpr int64_t kBlockBytes = 3072;        // of an output; fewer mean more partial sums, more spill the second cache
constexpr int64_t kStreamBlockBytes = 8192;  // of a panel's weights, where few rows are still several tiles
// Where memory takes longer than arithmetic, one sequential stream a thread is all that it can give: fetching ahead of
// it costs a tenth. With more rows arithmetic delays the loads, and lines must wait in the second cache, for the first
// cannot ask for enough. Measured on a Zen 4 with vectors of 8 and 16 lanes; a Xeon needs it with any number of rows
// (Product::fetch_ahead): 2 rows take 0.39 s a frame with it and 0.65 s without.
constexpr int kStreamingRows = kLanes == 16 ? 4 : 2;
constexpr int64_t kAhead = 8192;  // bytes
constexpr int64_t kPadding = 16;  // words between rows of scratch, against rows that fall into the same cache sets

/// In a block of k of many rows.
template <class W>
constexpr int64_t kBlockWords = kBlockBytes / int64_t{sizeof(typename W::Stored)};

/// Whole taps, or a part of one.
struct Block {
  int64_t first_tap;
  int64_t taps;
  int64_t first_word;  // within each tap
  int64_t words;       // of each tap
};

/// What a walk over the blocks needs to know of the shape.
struct Shape {
  int64_t taps;
  int64_t tap_words;

  int64_t words() const { return taps * tap_words; }
};

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// A tile cannot use activations as they lie if it wants several rows together, or if k of one word come from two taps
/// or stick out of the row.
template <class W>
bool needs_flat(const Product& p) {
  return W::kRowStep > 1 || p.channels % W::kActivations != 0;
}
/// Or if it wants bf16 widened.
template <class W>
bool needs_staging(const Product& p) {
  return needs_flat<W>(p) || (W::kActivations > 1 && sizeof(typename W::Activation) == sizeof(float));
}

/// Of a row of `count` staged activations.
template <class W>
int64_t staged_pitch(int64_t count) {
  return round_up(count, kPadding * W::kActivations) + kPadding * W::kActivations;
}

template <class W>
Shape shape_of(const Product& p) {
  if (needs_flat<W>(p)) return {1, divide_up(p.taps * p.channels, W::kActivations)};
  return {p.taps, p.channels / W::kActivations};
}

/// Blocks of at most `limit` words, as equal as can be.
Block block_at(const Shape& shape, int64_t word, int64_t limit) {
  const int64_t tap = word / shape.tap_words;
  if (shape.tap_words > limit) {
    const int64_t words = round_up(divide_up(shape.tap_words, divide_up(shape.tap_words, limit)), 8);
    const int64_t first = word % shape.tap_words;
    return {tap, 1, first, least(words, shape.tap_words - first)};
  }
  const int64_t taps = divide_up(shape.taps, divide_up(shape.taps, limit / shape.tap_words));
  return {tap, least(taps, shape.taps - tap), 0, shape.tap_words};
}

/// body(block, first word, whether it is the last)
template <class Body>
HWY_INLINE void for_each_block(const Shape& shape, int64_t limit, const Body& body) {
  for (int64_t word = 0; word < shape.words();) {
    const Block block = block_at(shape, word, limit);
    const int64_t end = word + block.taps * block.words;
    body(block, word, end == shape.words());
    word = end;
  }
}

/// One block of k for one part of the output.
template <class W>
struct Walk {
  const Product* product;
  const typename W::Activation* a;  // row 0 of the part, first word of the block
  int64_t a_stride;
  int64_t tap_stride;
  int64_t panel_stride;  // of the weights
  int64_t first_row;     // of the part
  int64_t first_panel;
  int64_t rows;
  int64_t taps;
  int64_t words;
  bool first;
  bool last;
};

/// R rows of P panels: the sums so far go on over this block. `w` are the weights of the first panel, `sums` is
/// [walk.rows][kPanel] a panel, from the tile's first row on.
template <class W, int R, int P, class AheadOfUse>
HWY_NOINLINE void tile(const Walk<W>& walk, const typename W::Stored* w, float* sums, int64_t row, int64_t panel,
                       AheadOfUse ahead) {
  constexpr int V = P * kVectors;
  F acc[R][V];
  const auto place = [&](int r, int v) HWY_ATTR {
    return sums + v / kVectors * walk.rows * kPanel + r * kPanel + v % kVectors * kLanes;
  };
  if (walk.first) {
    for_each_sum(acc, [&](F& sum, int, int) HWY_ATTR { sum = zero(); });
  } else {
    for_each_sum(acc, [&](F& sum, int r, int v) HWY_ATTR { sum = load(place(r, v)); });
  }
  const typename W::Activation* a = walk.a + row * walk.a_stride;
  for (int64_t tap = 0; tap < walk.taps; ++tap) {
    accumulate<W>(acc, a, walk.a_stride, w, kPanel, walk.panel_stride, walk.words, ahead);
    a += walk.tap_stride;
    w += walk.words * kPanel;
  }
  const Product& p = *walk.product;
  const int64_t width = p.gated ? kPanel / 2 : kPanel;
  const int64_t column = (walk.first_panel + panel) * width;
  const bool in_registers = !p.gated && column + P * kPanel <= p.columns;
  if (walk.last && in_registers) {
    typed(p.out, [&](auto* out) HWY_ATTR { finish_registers(acc, p, out, walk.first_row + row, column); });
    return;
  }
  for_each_sum(acc, [&](F& sum, int r, int v) HWY_ATTR { store(sum, place(r, v)); });
  if (!walk.last) return;
  for (int i = 0; i < P; ++i) {
    typed(p.out, [&](auto* out) HWY_ATTR {
      finish_sums(p, sums + i * walk.rows * kPanel, out, walk.first_row + row, R, column + i * width);
    });
  }
}

template <class W>
Walk<W> walk_over(const Product& p, const ProductPart& part, const Shape& shape) {
  Walk<W> walk{};
  walk.product = &p;
  walk.panel_stride = shape.words() * kPanel;
  walk.first_row = part.row_begin;
  walk.first_panel = part.panel_begin;
  walk.rows = part.row_end - part.row_begin;
  return walk;
}

/// Activations where they lie.
template <class W>
void use_in_place(Walk<W>& walk, const Product& p, const ProductPart& part, const Block& block) {
  const int64_t row = part.row_begin + block.first_tap * p.dilation;
  walk.a_stride = p.a_stride;
  walk.a = static_cast<const typename W::Activation*>(p.a) + row * p.a_stride +
           block.first_word * W::kActivations * W::kRowStep;
  walk.tap_stride = p.dilation * p.a_stride;
}

/// Few rows stream the weights of one panel after the other from memory. One tile takes all k at once; several tiles
/// take a block that stays in the first cache in turn, and each fetches its share of the next.
template <class W>
void few_rows(const Product& p, const ProductPart& part, float* sums) {
  const Shape shape = shape_of<W>(p);
  const int64_t rows = part.row_end - part.row_begin;
  const int64_t panels = part.panel_end - part.panel_begin;
  constexpr int64_t kWordBytes = kPanel * int64_t{sizeof(typename W::Stored)};
  constexpr int kLines = kWordBytes / kCacheLine;
  Walk<W> walk = walk_over<W>(p, part, shape);
  const auto* weights = static_cast<const typename W::Stored*>(p.weights) + part.panel_begin * walk.panel_stride;
  const auto use = [&](const Block& block, bool first, bool last) {
    use_in_place(walk, p, part, block);
    walk.taps = block.taps;
    walk.words = block.words;
    walk.first = first;
    walk.last = last;
  };
  if (rows <= W::kRows) {
    use({0, shape.taps, 0, shape.tap_words}, true, true);
    for_each_tile_and_panel<W>(rows, panels, [&]<int R, int P>(int64_t row, int64_t panel) HWY_ATTR {
      const auto* w = weights + panel * walk.panel_stride;
      const char* at = reinterpret_cast<const char*>(w) + kAhead;
      if (R <= kStreamingRows && !p.fetch_ahead) {
        tile<W, R, P>(walk, w, sums, row, panel, Ahead<0, 2>{at, kWordBytes});
      } else {
        tile<W, R, P>(walk, w, sums, row, panel, Ahead<kLines, 2>{at, kWordBytes});
      }
    });
    return;
  }
  const int64_t tiles = divide_up(rows, W::kRows);
  const auto in_turn = [&]<int kCacheLevel>() HWY_ATTR {
    for (int64_t panel = 0; panel < panels; ++panel) {
      for_each_block(shape, kStreamBlockBytes / kWordBytes, [&](const Block& block, int64_t word, bool last) HWY_ATTR {
        use(block, word == 0, last);
        const auto* w = weights + panel * walk.panel_stride + word * kPanel;
        const int64_t bytes = block.taps * block.words * kWordBytes;
        Ahead<1, kCacheLevel> ahead{reinterpret_cast<const char*>(w) + bytes, kWordBytes / tiles};
        for_each_tile<W>(rows, [&](int64_t row, int64_t count) HWY_ATTR {
          with_rows<W::kRows>(
              count, [&]<int R>() HWY_ATTR { tile<W, R, 1>(walk, w, sums + row * kPanel, row, panel, ahead); });
          ahead.at += bytes / tiles;
        });
      });
    }
  };
  if (tiles == 2) {
    in_turn.template operator()<2>();
  } else {
    in_turn.template operator()<1>();  // measured: a tenth faster there
  }
}

/// Many rows take blocks of k, of which a panel's weights stay in the cache while all rows pass by.
template <class W>
void many_rows(const Product& p, const ProductPart& part, float* sums) {
  const Shape shape = shape_of<W>(p);
  const int64_t rows = part.row_end - part.row_begin;
  const int64_t panels = part.panel_end - part.panel_begin;
  Walk<W> walk = walk_over<W>(p, part, shape);
  const auto* weights = static_cast<const typename W::Stored*>(p.weights) + part.panel_begin * walk.panel_stride;
  auto* staged = reinterpret_cast<typename W::Activation*>(sums + rows * panels * kPanel);

  for_each_block(shape, kBlockWords<W>, [&](const Block& block, int64_t word, bool last) HWY_ATTR {
    const int64_t first = block.first_word * W::kActivations;
    const int64_t count = block.words * W::kActivations;
    walk.a = staged;
    walk.a_stride = staged_pitch<W>(count);
    walk.tap_stride = p.dilation * walk.a_stride;
    if (needs_flat<W>(p)) {
      stage_flat<W>(staged, walk.a_stride, p, part.row_begin, rows, first, first + count);
    } else if (needs_staging<W>(p)) {
      stage_rows<W>(staged, walk.a_stride, p, part.row_begin + block.first_tap * p.dilation,
                    rows + (block.taps - 1) * p.dilation, first, count);
    } else {
      use_in_place(walk, p, part, block);
    }
    walk.taps = block.taps;
    walk.words = block.words;
    walk.first = word == 0;
    walk.last = last;
    const int64_t block_words = block.taps * block.words;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const auto* w = weights + panel * walk.panel_stride + word * kPanel;
      const auto* next = panel + 1 < panels ? w + walk.panel_stride : weights + (word + block_words) * kPanel;
      // The first two tiles fetch the next panel's weights, a line a step or less.
      constexpr int64_t kStep = kPanel * int64_t{sizeof(typename W::Stored)} / 2;
      Ahead<1> ahead{reinterpret_cast<const char*>(next), kStep};
      int64_t tiles = 0;
      for_each_tile<W>(rows, [&](int64_t row, int64_t tile_rows) HWY_ATTR {
        with_rows<W::kRows>(tile_rows, [&]<int R>() HWY_ATTR {
          tile<W, R, 1>(walk, w, sums + (panel * rows + row) * kPanel, row, panel, ahead);
        });
        ahead.at += block_words * kStep;
        if (++tiles == 2) ahead = {reinterpret_cast<const char*>(w), 0};
      });
    }
  });
}

template <class W>
void product(const Product& p, const ProductPart& part, void* scratch) {
  if (p.stream) {
    few_rows<W>(p, part, static_cast<float*>(scratch));
  } else {
    many_rows<W>(p, part, static_cast<float*>(scratch));
  }
}

template <class W>
size_t scratch_bytes(const Product& p, const ProductPart& part) {
  const int64_t rows = part.row_end - part.row_begin;
  const int64_t panels = part.panel_end - part.panel_begin;
  if (p.stream) return static_cast<size_t>(rows * least(panels, 2) * kPanel) * sizeof(float);
  const size_t sums = static_cast<size_t>(rows * panels * kPanel) * sizeof(float);
  if (!needs_staging<W>(p)) return sums;
  const Shape shape = shape_of<W>(p);
  const int64_t pitch = staged_pitch<W>(round_up(least(kBlockWords<W>, shape.tap_words), 8) * W::kActivations);
  const int64_t staged_rows = round_up(rows, W::kRowStep) + (shape.taps - 1) * p.dilation;
  return sums + static_cast<size_t>(staged_rows * pitch) * sizeof(typename W::Activation);
}

}  // namespace

void product_f32(const Product& p, const ProductPart& part, void* scratch) {
  product<WeightsF32>(p, part, scratch);
}

void product_bf16(const Product& p, const ProductPart& part, void* scratch) {
  product<WeightsPacked>(p, part, scratch);
}

size_t product_scratch_bytes(const Product& p, const ProductPart& part, Element weights) {
  return weights == Element::kF32 ? scratch_bytes<WeightsF32>(p, part) : scratch_bytes<WeightsPacked>(p, part);
}

size_t product_staged_bytes(const Product& p, int64_t rows, Element weights) {
  if (weights == Element::kF32 || !needs_staging<WeightsPacked>(p)) return 0;
  return static_cast<size_t>(round_up(rows, WeightsPacked::kRowStep) *
                             staged_pitch<WeightsPacked>(p.taps * p.channels)) *
         sizeof(WeightsPacked::Activation);
}

void product_stage(Product& p, int64_t rows, void* out) {
  const int64_t pitch = staged_pitch<WeightsPacked>(p.taps * p.channels);
  const int64_t k = round_up(p.taps * p.channels, WeightsPacked::kActivations);
  stage_flat<WeightsPacked>(static_cast<WeightsPacked::Activation*>(out), pitch, p, 0, rows, 0, k);
  p.a = out;
  p.a_stride = pitch;
  p.taps = 1;
  p.channels = k;
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

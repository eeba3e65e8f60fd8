// out[t] = epilogue(sum over j < taps of W_j a[t + j * dilation]): every matrix product and convolution.
//
// Contract: kernels.h. Any alignment of a and out; out overlaps neither a nor the weights. The scratch is
// product_scratch_bytes long and 64-byte aligned. Each output is one chain over ascending k: where the sum is cut into
// blocks of k that fit the cache, the chain goes on from its partial sum in f32.
#include "cpu/kernels/tile.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

// 384 words of a panel of 16 and of 6 rows are 33 KB.
constexpr int64_t kBlockWords = kLanes == 16 ? 768 : 384;
constexpr int64_t kPadding = 16;  // words between rows of scratch, against rows that fall into the same cache sets

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
};

/// Activations are copied block by block into scratch where the tile cannot use them as they lie: it wants bf16
/// widened, or pairs cross from one tap to the next or stick out of the row.
template <class W>
bool needs_staging(const Product& p) {
  return (W::kActivations == 2 && sizeof(typename W::Activation) == 4) || p.channels % W::kActivations != 0;
}

template <class W>
Shape shape_of(const Product& p) {
  if (needs_staging<W>(p)) return {1, (p.taps * p.channels + W::kActivations - 1) / W::kActivations};
  return {p.taps, p.channels / W::kActivations};
}

int64_t block_words(const Product& p, const Shape& shape) {
  return p.stream ? shape.taps * shape.tap_words : kBlockWords;
}

Block next_block(const Shape& shape, int64_t tap, int64_t word, int64_t limit) {
  if (shape.tap_words > limit) return {tap, 1, word, least(limit, shape.tap_words - word)};
  return {tap, least(limit / shape.tap_words, shape.taps - tap), 0, shape.tap_words};
}

/// Element t of the staged row is a[row + tap * dilation][channel] for flat k = tap * channels + channel.
template <typename To>
void stage(To* out, int64_t pitch, const Product& p, int64_t row_begin, int64_t rows, int64_t k_begin, int64_t k_end) {
  const int64_t k_stop = least(k_end, p.taps * p.channels);
  for (int64_t r = 0; r < rows; ++r) {
    To* to = out + r * pitch;
    for (int64_t k = k_begin; k < k_stop;) {
      const int64_t tap = k / p.channels;
      const int64_t channel = k % p.channels;
      const int64_t count = least(p.channels - channel, k_stop - k);
      const uint16_t* from =
          static_cast<const uint16_t*>(p.a) + (row_begin + r + tap * p.dilation) * p.a_stride + channel;
      if constexpr (sizeof(To) == sizeof(float)) {
        for (int64_t i = 0; i < count; i += kLanes) store_first(load_first(from + i, count - i), to + i, count - i);
      } else {
        for (int64_t i = 0; i < count; ++i) to[i] = from[i];
      }
      to += count;
      k += count;
    }
    for (int64_t k = k_stop; k < k_end; ++k) *to++ = To{};
  }
}

/// The epilogue of rows [row, row + rows) of one panel: sums [rows][kPanel] to `out`, whose column 0 is the panel's.
template <typename Out>
void finish(const Product& p, const float* sums, Out* out, int64_t rows, int64_t first_column) {
  constexpr int kHalf = kPanel / 2;
  const int width = p.gated ? kHalf : kPanel;
  for (int lane = 0; lane < width; lane += kLanes) {
    const int64_t column = first_column + lane;
    const int64_t count = p.columns - column;
    if (count <= 0) return;
    const F bias = p.bias != nullptr ? load_first(p.bias + column, count) : zero();
    const F gain = p.gain != nullptr ? load_first(p.gain + column, count) : zero();
    const F slope = p.prelu != nullptr ? set(*p.prelu) : zero();
    for (int64_t r = 0; r < rows; ++r) {
      F sum = load(sums + r * kPanel + lane);
      Out* to = out + r * p.out_stride + lane;
      if (p.gated) sum = hn::Mul(silu(sum), load(sums + r * kPanel + kHalf + lane));
      if (p.bias != nullptr) sum = hn::Add(sum, bias);
      if (p.prelu != nullptr) sum = hn::IfThenElse(hn::Lt(sum, zero()), hn::Mul(sum, slope), sum);
      if (p.gain != nullptr) sum = hn::Mul(sum, gain);
      if (p.add) sum = hn::Add(load_first(to, count), sum);
      store_first(sum, to, count);
    }
  }
}

/// One block of k for one part of the output.
template <class W>
struct Walk {
  const typename W::Activation* a;  // row 0 of the part, first word of the block
  int64_t a_stride;
  int64_t tap_stride;
  const typename W::Stored* weights;  // panel 0 of the part, first word of the block
  int64_t panel_stride;
  float* sums;  // [panels][rows][kPanel]
  int64_t rows;
  int64_t taps;
  int64_t words;
  bool first;
};

/// R rows of P panels: the sums so far go on over this block.
template <class W, int R, int P>
HWY_NOINLINE void tile(const Walk<W>& walk, int64_t row, int64_t panel) {
  constexpr int V = P * kVectors;
  F acc[R][V];
  float* sums = walk.sums + (panel * walk.rows + row) * kPanel;
  const auto place = [&](int r, int v) HWY_ATTR {
    return sums + v / kVectors * walk.rows * kPanel + r * kPanel + v % kVectors * kLanes;
  };
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) acc[r][v] = walk.first ? zero() : load(place(r, v));
  }
  const typename W::Activation* a = walk.a + row * walk.a_stride;
  const typename W::Stored* w = walk.weights + panel * walk.panel_stride;
  for (int64_t tap = 0; tap < walk.taps; ++tap) {
    accumulate<W, R, V>(acc, a, walk.a_stride, w, kPanel, walk.panel_stride, walk.words);
    a += walk.tap_stride;
    w += walk.words * kPanel;
  }
  HWY_UNROLL(16)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < V; ++v) store(acc[r][v], place(r, v));
  }
}

template <class W>
void product(const Product& p, const ProductPart& part, void* scratch) {
  const int64_t rows = part.row_end - part.row_begin;
  const int64_t panels = part.panel_end - part.panel_begin;
  const Shape shape = shape_of<W>(p);
  const int64_t limit = block_words(p, shape);
  const bool staged = needs_staging<W>(p);
  const int64_t panel_stride = shape.taps * shape.tap_words * kPanel;

  float* sums = static_cast<float*>(scratch);
  auto* stage_area = reinterpret_cast<typename W::Activation*>(sums + rows * panels * kPanel);

  int64_t done = 0;  // words
  while (done < shape.taps * shape.tap_words) {
    const Block block = next_block(shape, done / shape.tap_words, done % shape.tap_words, limit);
    Walk<W> walk;
    if (staged) {
      walk.a_stride = (round_up(least(limit, shape.tap_words), kPadding) + kPadding) * W::kActivations;
      stage(stage_area, walk.a_stride, p, part.row_begin, rows, block.first_word * W::kActivations,
            (block.first_word + block.words) * W::kActivations);
      walk.a = stage_area;
      walk.tap_stride = 0;
    } else {
      const int64_t row = part.row_begin + block.first_tap * p.dilation;
      walk.a_stride = p.a_stride;
      walk.a = static_cast<const typename W::Activation*>(p.a) + row * p.a_stride + block.first_word * W::kActivations;
      walk.tap_stride = p.dilation * p.a_stride;
    }
    walk.weights = static_cast<const typename W::Stored*>(p.weights) + part.panel_begin * panel_stride + done * kPanel;
    walk.panel_stride = panel_stride;
    walk.sums = sums;
    walk.rows = rows;
    walk.taps = block.taps;
    walk.words = block.words;
    walk.first = done == 0;
    done += block.taps * block.words;
    const bool last = done == shape.taps * shape.tap_words;

    for_each_tile_and_panel(rows, panels, [&]<int R, int P>(int64_t row, int64_t panel) HWY_ATTR {
      tile<W, R, P>(walk, row, panel);
      if (!last) return;
      for (int64_t i = panel; i < panel + P; ++i) {
        const int64_t column = (part.panel_begin + i) * (p.gated ? kPanel / 2 : kPanel);
        typed(p.out, [&](auto* out) HWY_ATTR {
          finish(p, sums + (i * rows + row) * kPanel, out + (part.row_begin + row) * p.out_stride + column, R, column);
        });
      }
    });
  }
}

template <class W>
size_t scratch_bytes(const Product& p, const ProductPart& part) {
  const int64_t rows = part.row_end - part.row_begin;
  const Shape shape = shape_of<W>(p);
  int64_t floats = rows * (part.panel_end - part.panel_begin) * kPanel;
  if (needs_staging<W>(p)) {
    const int64_t words = least(block_words(p, shape), shape.tap_words);
    floats += rows * (round_up(words, kPadding) + kPadding) * W::kActivations;
  }
  return static_cast<size_t>(floats) * sizeof(float);
}

}  // namespace

void product_f32(const Product& p, const ProductPart& part, void* scratch) {
  product<WeightsF32>(p, part, scratch);
}

void product_bf16(const Product& p, const ProductPart& part, void* scratch) {
  product<WeightsPairs>(p, part, scratch);
}

size_t product_scratch_bytes(const Product& p, const ProductPart& part, Element weights) {
  return weights == Element::kF32 ? scratch_bytes<WeightsF32>(p, part) : scratch_bytes<WeightsPairs>(p, part);
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

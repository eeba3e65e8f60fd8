// The kernels of one instruction set: a table of plain functions, one getter for each set.
//
// A kernel source is compiled once for each instruction set, with HEARTMULA_KERNELS naming the set's namespace. It must
// not instantiate anything that another file could share (no standard containers, no inline functions of other
// headers): the linker might keep the copy with AVX-512 for everyone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace heartmula::cpu {

enum class Element : uint8_t { kF32, kBF16 };

/// Consecutive elements, f32 or bf16.
struct Strip {
  void* data = nullptr;
  Element element = Element::kF32;
};
struct ConstStrip {
  const void* data = nullptr;
  Element element = Element::kF32;
};

/// out[t] = epilogue(sum over j < taps of W_j a[t + j * dilation]) with packed W; a plain product has one tap.
///
/// W is packed as [panels][words][panel width] of 32-bit words: one k in f32, the pair (k, k + 1) in bf16, zero where
/// there is no output or no k. k counts tap by tap, k = tap * channels + channel.
/// epilogue(s) = [out +] [gain *] prelu(s + bias), or silu(gate) * up: then the first half of each panel's lanes is
/// gate and the second half up. What goes to out goes to copy, too, if there is one, which overlaps nothing else.
struct Product {
  const void* a = nullptr;  // rows of the element type of the weights
  int64_t a_stride = 0;     // elements
  int64_t taps = 1;
  int64_t channels = 0;
  int64_t dilation = 0;

  const void* weights = nullptr;
  int64_t columns = 0;  // of out

  Strip out = {};
  int64_t out_stride = 0;  // elements
  Strip copy = {};
  int64_t copy_stride = 0;  // elements
  const float* bias = nullptr;
  const float* gain = nullptr;
  const float* prelu = nullptr;
  bool add = false;
  bool gated = false;
  bool stream = false;       // few rows: read the weights in one go; activations are staged first if they need it
  bool fetch_ahead = false;  // however few they are
};

/// A part of a product's output: rows and panels, half open.
struct ProductPart {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t panel_begin = 0;
  int64_t panel_end = 0;
};

constexpr int64_t kKeyBlock = 256;  // positions

/// Keys and values of one stream and key head, in words of 32 bits: an f32, or a pair of bf16.
///
/// They lie in blocks of kKeyBlock positions, the last one as long as the capacity leaves. Keys of a block: panels
/// [positions / panel width][words][panel width] as in Product, k running over the head. Values of a block: panels of
/// the head's columns, padded with zeros, [words][panel width], k running over the positions.
/// Whole panels and words may be read, but nothing at or beyond a row's `count` is ever used.
struct KeyValues {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  int64_t key_stride = 0;           // bytes from a block's keys to those of the next place
  int64_t value_stride = 0;         // likewise
  const int32_t* places = nullptr;  // of each block; null: one after another
  Element element = Element::kF32;
  int64_t head_dim = 0;  // even
  int64_t capacity = 0;  // positions; a multiple of the panel width
  float scale = 1.0F;    // of the scores
};

/// A key, not rotated yet, and a value of one head, [head_dim] each, with the rotation of their position,
/// [head_dim / 2].
struct KeyValue {
  const float* key = nullptr;
  const float* value = nullptr;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

/// One head of one row: out = softmax(scale * rotated(q) k) v over the positions [0, count).
struct Query {
  const float* q = nullptr;
  const float* cos = nullptr;
  const float* sin = nullptr;
  void* out = nullptr;
  int64_t count = 0;
};

/// Some blocks of keys for some queries: block b gives query i the part [attend_part_floats] at
/// parts + b * stride + i * attend_part_floats, if the query sees any of it.
struct BlockRange {
  int64_t begin = 0;
  int64_t end = 0;
  float* parts = nullptr;
  int64_t stride = 0;
};

struct Kernels {
  int panel_width;        // outputs in a panel of packed weights, positions in a panel of keys
  int bf16_group;         // k in a word of packed bf16 weights: 2 or 4
  int tile_rows;          // most rows in registers at once
  int64_t block_rows;     // of a chunk of a product of many rows
  int64_t block_columns;  // likewise

  void (*product_f32)(const Product&, const ProductPart&, void* scratch);
  void (*product_bf16)(const Product&, const ProductPart&, void* scratch);
  size_t (*product_scratch_bytes)(const Product&, const ProductPart&, Element weights);
  size_t (*product_staged_bytes)(const Product&, int64_t rows, Element weights);  // 0: usable as they are
  void (*product_stage)(Product&, int64_t rows, void* out);  // copies activations and makes the product use the copy

  void (*append)(const KeyValues&, int64_t position, const KeyValue&);
  void (*attend)(const KeyValues&, const Query* queries, int64_t count, Element out, void* scratch);
  /// The same in two steps: the parts of some blocks (`end` at most those that the longest query sees), and, when every
  /// block has given its parts, all of them joined.
  void (*attend_blocks)(const KeyValues&, const Query* queries, int64_t count, const BlockRange&, void* scratch);
  void (*attend_join)(const KeyValues&, const Query* queries, int64_t count, const BlockRange&, Element out);
  int64_t (*attend_part_floats)(const KeyValues&);
  size_t (*attend_scratch_bytes)(const KeyValues&, int64_t count);

  void (*rms_norm)(Strip out, ConstStrip x, const float* gain, const float* scale, const float* shift, float eps,
                   int64_t count);
  void (*layer_norm)(Strip out, ConstStrip x, const float* scale, const float* shift, float eps, int64_t count);

  void (*copy)(Strip out, ConstStrip x, int64_t count);
  void (*combine)(Strip out, float a, ConstStrip x, float b, ConstStrip y, int64_t count);
  void (*guide)(Strip out, ConstStrip x, ConstStrip y, float guidance, int64_t count);
  void (*silu)(Strip out, ConstStrip x, int64_t count);
  void (*round_levels)(Strip out, ConstStrip x, float levels, int64_t count);

  // Ceilings. `steps` rounds of multiply-adds on registers return how many floating-point operations they were.
  double (*multiply_add_f32)(int64_t steps);
  double (*multiply_add_bf16)(int64_t steps);
  uint32_t (*read)(const void* data, int64_t bytes);  // every whole 32-bit word; their exclusive or
};

#if defined(HEARTMULA_KERNELS)
namespace HEARTMULA_KERNELS {
void product_f32(const Product&, const ProductPart&, void* scratch);
void product_bf16(const Product&, const ProductPart&, void* scratch);
size_t product_scratch_bytes(const Product&, const ProductPart&, Element weights);
size_t product_staged_bytes(const Product&, int64_t rows, Element weights);
void product_stage(Product&, int64_t rows, void* out);
void append(const KeyValues&, int64_t position, const KeyValue&);
void attend(const KeyValues&, const Query* queries, int64_t count, Element out, void* scratch);
void attend_blocks(const KeyValues&, const Query* queries, int64_t count, const BlockRange&, void* scratch);
void attend_join(const KeyValues&, const Query* queries, int64_t count, const BlockRange&, Element out);
int64_t attend_part_floats(const KeyValues&);
size_t attend_scratch_bytes(const KeyValues&, int64_t count);
void rms_norm(Strip out, ConstStrip x, const float* gain, const float* scale, const float* shift, float eps,
              int64_t count);
void layer_norm(Strip out, ConstStrip x, const float* scale, const float* shift, float eps, int64_t count);
void copy(Strip out, ConstStrip x, int64_t count);
void combine(Strip out, float a, ConstStrip x, float b, ConstStrip y, int64_t count);
void guide(Strip out, ConstStrip x, ConstStrip y, float guidance, int64_t count);
void silu(Strip out, ConstStrip x, int64_t count);
void round_levels(Strip out, ConstStrip x, float levels, int64_t count);
double multiply_add_f32(int64_t steps);
double multiply_add_bf16(int64_t steps);
uint32_t read(const void* data, int64_t bytes);
}  // namespace HEARTMULA_KERNELS
#endif

#if defined(__x86_64__)
namespace baseline {
const Kernels& kernels();
}
namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}
namespace avx512bf16 {
const Kernels& kernels();
}
#elif defined(__aarch64__)
namespace neon {
const Kernels& kernels();
}
namespace neonbf16 {
const Kernels& kernels();
}
#endif

}  // namespace heartmula::cpu

// Stores a rotated key and a value where attention reads them (KeyValues in kernels.h), rounded to their element type.
#include "cpu/kernels/key_blocks.h"
#include "cpu/kernels/rotate.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

/// `count` floats to every kPanel-th word from `words`: one float each, or the pair 2i, 2i + 1 of bf16.
void scatter(const float* from, float* words, int64_t count) {
  for (int64_t i = 0; i < count; ++i) words[i * kPanel] = from[i];
}
void scatter(const float* from, uint32_t* words, int64_t count) {
  HWY_ALIGN uint32_t pairs[kRotatePiece / 2];
  auto* halves = reinterpret_cast<uint16_t*>(pairs);
  for (int64_t i = 0; i < count; i += kLanes) store_first(load_first(from + i, count - i), halves + i, count - i);
  for (int64_t i = 0; i < count / 2; ++i) words[i * kPanel] = pairs[i];
}

template <typename Word, typename Value>
void append_typed(const KeyValues& kv, int64_t position, const KeyValue& from) {
  constexpr int64_t kPerWord = sizeof(Word) / sizeof(Value);  // NOLINT(bugprone-sizeof-expression): of types, exact
  const int64_t words = kv.head_dim / kPerWord;
  const int64_t block = position / kKeyBlock;
  const int64_t at = position % kKeyBlock;
  Word* key = keys_of<Word>(kv, block) + at / kPanel * words * kPanel + at % kPanel;
  HWY_ALIGN float rotated[kRotatePiece];
  for (int64_t first = 0; first < kv.head_dim; first += kRotatePiece) {
    const int64_t count = least(kRotatePiece, kv.head_dim - first);
    rotate(rotated, from.key + first, from.cos + first / 2, from.sin + first / 2, count);
    scatter(rotated, key + first / kPerWord * kPanel, count);
  }
  const int64_t panel_stride = positions_of(kv, block) * kPanel;
  const int64_t width = round_up(kv.head_dim, kPanel);
  Value* value = values_of<Value>(kv, block) + at / kPerWord * kPanel * kPerWord + at % kPerWord;
  for (int64_t first = 0; first < width; first += kPanel) {
    HWY_ALIGN Value lanes[kPanel];
    for (int64_t d = 0; d < kPanel; d += kLanes) {
      const int64_t left = kv.head_dim - first - d;
      store(left > 0 ? load_first(from.value + first + d, left) : zero(), lanes + d);
    }
    for (int64_t i = 0; i < kPanel; ++i) value[i * kPerWord] = lanes[i];
    value += panel_stride;
  }
}

}  // namespace

void append(const KeyValues& kv, int64_t position, const KeyValue& from) {
  if (kv.element == Element::kF32) {
    append_typed<float, float>(kv, position, from);
  } else {
    append_typed<uint32_t, uint16_t>(kv, position, from);
  }
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

#include "cpu/kv_cache.h"

#include <algorithm>
#include <cmath>

#include "cpu/memory.h"

namespace heartmula::cpu {
namespace {

static_assert(kKeyBlock == kKvBlock);

int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

int64_t element_bytes(Element element) {
  return element == Element::kBF16 ? 2 : 4;
}

}  // namespace

KvLayout::KvLayout(const Kernels& kernels, DType dtype, int64_t count, int64_t positions, int64_t dim)
    : element(element_of(dtype)),
      heads(count),
      head_dim(dim),
      panel_width(kernels.panel_width),
      capacity(round_up(positions, panel_width)),
      block_bytes(heads * (key_bytes(kKeyBlock) + value_bytes(kKeyBlock))),
      bytes(heads * (key_bytes(capacity) + value_bytes(capacity))) {}

int64_t KvLayout::key_bytes(int64_t positions) const {
  return positions * head_dim * element_bytes(element);
}

int64_t KvLayout::value_bytes(int64_t positions) const {
  return positions * round_up(head_dim, panel_width) * element_bytes(element);
}

// Every block but the last one is whole, and so is the place that its head's values have behind the keys.
KeyValues KvLayout::head(void* data, int64_t index) const {
  auto* keys = static_cast<std::byte*>(data);
  return {.keys = keys + index * key_bytes(capacity),
          .values = keys + heads * key_bytes(capacity) + index * value_bytes(capacity),
          .key_stride = key_bytes(kKeyBlock),
          .value_stride = value_bytes(kKeyBlock),
          .element = element,
          .head_dim = head_dim,
          .capacity = capacity,
          .scale = 1.0F / std::sqrt(static_cast<float>(head_dim))};
}

KeyValues KvLayout::head(void* data, int64_t index, const int32_t* places) const {
  auto* keys = static_cast<std::byte*>(data);
  return {.keys = keys + index * key_bytes(kKeyBlock),
          .values = keys + heads * key_bytes(kKeyBlock) + index * value_bytes(kKeyBlock),
          .key_stride = block_bytes,
          .value_stride = block_bytes,
          .places = places,
          .element = element,
          .head_dim = head_dim,
          .capacity = capacity,
          .scale = 1.0F / std::sqrt(static_cast<float>(head_dim))};
}

CpuKvCache::CpuKvCache(const Kernels& kernels, const KvShape& shape, const CpuKvTable* table)
    : shape_(shape),
      table_(table),
      layout_(kernels, shape.dtype, shape.kv_heads,
              table == nullptr ? shape.capacity : round_up(shape.capacity, kKeyBlock), shape.head_dim),
      bytes_(table == nullptr ? shape.streams * layout_.bytes : shape.blocks * layout_.block_bytes),
      data_(std::static_pointer_cast<std::byte>(allocate_zeroed(static_cast<size_t>(bytes_)))) {}

}  // namespace heartmula::cpu

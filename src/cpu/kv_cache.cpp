#include "cpu/kv_cache.h"

#include <cmath>
#include <cstring>

namespace heartmula::cpu {
namespace {

int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace

KvLayout::KvLayout(const Kernels& kernels, DType dtype, int64_t heads, int64_t capacity, int64_t dim)
    : element(element_of(dtype)), head_dim(dim), panel_width(kernels.panel_width) {
  const auto size = static_cast<int64_t>(dtype_size(dtype));
  key_words = element == Element::kF32 ? head_dim : (head_dim + 1) / 2;
  value_stride = round_up(head_dim, panel_width);
  key_head_bytes = round_up(capacity, panel_width) * key_words * int64_t{sizeof(uint32_t)};
  value_head_bytes = capacity * value_stride * size;
  bytes = heads * (key_head_bytes + value_head_bytes);
}

KeyValues KvLayout::head(const void* data, int64_t heads, int64_t index) const {
  const auto* bytes_of = static_cast<const std::byte*>(data);
  return {.keys = bytes_of + index * key_head_bytes,
          .values = bytes_of + heads * key_head_bytes + index * value_head_bytes,
          .element = element,
          .head_dim = head_dim,
          .value_stride = value_stride,
          .scale = 1.0F / std::sqrt(static_cast<float>(head_dim))};
}

void KvLayout::store(void* data, int64_t heads, int64_t index, int64_t position, const float* key,
                     const float* value) const {
  auto* key_data = static_cast<std::byte*>(data) + index * key_head_bytes;
  auto* value_data = static_cast<std::byte*>(data) + heads * key_head_bytes + index * value_head_bytes;
  const int64_t panel_word = position / panel_width * key_words * panel_width + position % panel_width;
  if (element == Element::kF32) {
    float* keys = reinterpret_cast<float*>(key_data) + panel_word;
    float* values = reinterpret_cast<float*>(value_data) + position * value_stride;
    for (int64_t d = 0; d < head_dim; ++d) keys[d * panel_width] = key[d];
    std::memcpy(values, value, static_cast<size_t>(head_dim) * sizeof(float));
  } else {
    uint32_t* keys = reinterpret_cast<uint32_t*>(key_data) + panel_word;
    uint16_t* values = reinterpret_cast<uint16_t*>(value_data) + position * value_stride;
    for (int64_t d = 0; d < head_dim; d += 2) {
      const uint32_t low = f32_to_bf16(key[d]);
      const uint32_t high = d + 1 < head_dim ? f32_to_bf16(key[d + 1]) : uint16_t{0};
      keys[d / 2 * panel_width] = low | high << 16;
    }
    for (int64_t d = 0; d < head_dim; ++d) values[d] = f32_to_bf16(value[d]);
  }
}

CpuKvCache::CpuKvCache(const Kernels& kernels, const KvShape& shape)
    : shape_(shape),
      layout_(kernels, shape.dtype, shape.streams * shape.kv_heads, shape.capacity, shape.head_dim),
      data_(allocate_aligned(static_cast<size_t>(layout_.bytes))) {
  std::memset(data_.get(), 0, static_cast<size_t>(layout_.bytes));  // the values' padding stays zero
}

}  // namespace heartmula::cpu

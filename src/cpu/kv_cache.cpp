#include "cpu/kv_cache.h"

#include <cmath>
#include <cstring>

namespace heartmula::cpu {
namespace {

int64_t round_up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace

KvLayout::KvLayout(const Kernels& kernels, DType dtype, int64_t heads, int64_t positions, int64_t dim)
    : element(element_of(dtype)),
      head_dim(dim),
      panel_width(kernels.panel_width),
      capacity(round_up(positions, panel_width)) {
  const auto size = static_cast<int64_t>(dtype_size(dtype));
  key_head_bytes = capacity * head_dim * size;
  value_head_bytes = capacity * round_up(head_dim, panel_width) * size;
  bytes = heads * (key_head_bytes + value_head_bytes);
}

KeyValues KvLayout::head(void* data, int64_t heads, int64_t index) const {
  auto* bytes_of = static_cast<std::byte*>(data);
  return {.keys = bytes_of + index * key_head_bytes,
          .values = bytes_of + heads * key_head_bytes + index * value_head_bytes,
          .element = element,
          .head_dim = head_dim,
          .capacity = capacity,
          .scale = 1.0F / std::sqrt(static_cast<float>(head_dim))};
}

CpuKvCache::CpuKvCache(const Kernels& kernels, const KvShape& shape)
    : shape_(shape),
      layout_(kernels, shape.dtype, shape.streams * shape.kv_heads, shape.capacity, shape.head_dim),
      data_(allocate_aligned(static_cast<size_t>(layout_.bytes))) {
  std::memset(data_.get(), 0, static_cast<size_t>(layout_.bytes));
}

}  // namespace heartmula::cpu

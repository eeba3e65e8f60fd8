// Keys and values of one layer: keys of a panel's positions side by side in lanes, so that scores are a product.
#pragma once

#include "cpu/device.h"
#include "ops/ops.h"

namespace heartmula::cpu {

/// Where keys and values of `heads` heads and up to `capacity` positions lie; KeyValues in kernels.h has the meaning.
struct KvLayout {
  KvLayout(const Kernels& kernels, DType dtype, int64_t heads, int64_t capacity, int64_t head_dim);

  Element element;
  int64_t head_dim;
  int64_t panel_width;
  int64_t key_words;       // of 32 bits, of one position
  int64_t value_stride;    // elements
  int64_t key_head_bytes;  // of all positions of one head
  int64_t value_head_bytes;
  int64_t bytes;  // of `heads` heads, keys first

  KeyValues head(const void* data, int64_t heads, int64_t index) const;
  /// Stores one key (rounded to the element type) and one value [head_dim] at `position`.
  void store(void* data, int64_t heads, int64_t index, int64_t position, const float* key, const float* value) const;
};

class CpuKvCache : public KvCache {
 public:
  CpuKvCache(const Kernels& kernels, const KvShape& shape);
  int64_t bytes() const override { return layout_.bytes; }

  const KvShape& shape() const { return shape_; }
  int64_t heads() const { return shape_.streams * shape_.kv_heads; }
  int64_t head_index(int64_t stream, int64_t kv_head) const { return stream * shape_.kv_heads + kv_head; }
  const KvLayout& layout() const { return layout_; }
  void* data() { return data_.get(); }
  const void* data() const { return data_.get(); }

 private:
  KvShape shape_;
  KvLayout layout_;
  std::shared_ptr<void> data_;
};

}  // namespace heartmula::cpu

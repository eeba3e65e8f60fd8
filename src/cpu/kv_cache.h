// Keys and values of one layer, laid out as the weights of two products: scores, and the mix of the values.
#pragma once

#include "cpu/device.h"
#include "ops/ops.h"

namespace heartmula::cpu {

/// Where keys and values of `heads` heads and up to `positions` positions lie; KeyValues in kernels.h has the meaning.
struct KvLayout {
  KvLayout(const Kernels& kernels, DType dtype, int64_t heads, int64_t positions, int64_t head_dim);

  Element element;
  int64_t head_dim;
  int64_t panel_width;
  int64_t capacity;        // positions, whole panels
  int64_t key_head_bytes;  // of all positions of one head
  int64_t value_head_bytes;
  int64_t bytes;  // of `heads` heads, keys first

  KeyValues head(void* data, int64_t heads, int64_t index) const;
};

class CpuKvCache : public KvCache {
 public:
  CpuKvCache(const Kernels& kernels, const KvShape& shape);
  int64_t bytes() const override { return layout_.bytes; }

  const KvShape& shape() const { return shape_; }
  KeyValues head(int64_t stream, int64_t kv_head) const {
    return layout_.head(data_.get(), shape_.streams * shape_.kv_heads, stream * shape_.kv_heads + kv_head);
  }

 private:
  KvShape shape_;
  KvLayout layout_;
  std::shared_ptr<void> data_;
};

}  // namespace heartmula::cpu

// Keys and values of one layer, laid out as the weights of two products: scores, and the mix of the values.
#pragma once

#include "cpu/device.h"
#include "ops/ops.h"

namespace heartmula::cpu {

/// Where keys and values of one stream, `count` heads of `dim` numbers and up to `positions` positions lie: all keys,
/// then all values. KeyValues in kernels.h has the meaning.
struct KvLayout {
  KvLayout(const Kernels& kernels, DType dtype, int64_t count, int64_t positions, int64_t dim);

  KeyValues head(void* data, int64_t index) const;
  /// The same where each block lies by itself, at the place that `places` says: keys of all heads, then their values.
  KeyValues head(void* data, int64_t index, const int32_t* places) const;

  Element element;
  int64_t heads;
  int64_t head_dim;
  int64_t panel_width;
  int64_t capacity;     // positions, whole panels
  int64_t block_bytes;  // of a whole block
  int64_t bytes;        // of all positions, together

 private:
  int64_t key_bytes(int64_t positions) const;
  int64_t value_bytes(int64_t positions) const;
};

struct CpuKvTable final : KvTable {
  CpuKvTable(int64_t streams, int64_t blocks)
      : blocks_of_stream(blocks), places(static_cast<size_t>(streams * blocks)) {}

  const int32_t* of(int64_t stream) const { return places.data() + stream * blocks_of_stream; }

  int64_t blocks_of_stream;
  std::vector<int32_t> places;  // [streams, blocks_of_stream]
};

class CpuKvCache : public KvCache {
 public:
  CpuKvCache(const Kernels& kernels, const KvShape& shape, const CpuKvTable* table);
  int64_t bytes() const override { return bytes_; }
  int64_t block_bytes() const { return layout_.block_bytes; }

  const KvShape& shape() const { return shape_; }
  KeyValues head(int64_t stream, int64_t kv_head) const {
    if (table_ != nullptr) return layout_.head(data_.get(), kv_head, table_->of(stream));
    return layout_.head(data_.get() + stream * layout_.bytes, kv_head);
  }
  std::byte* block(int64_t place) const { return data_.get() + place * layout_.block_bytes; }

 private:
  KvShape shape_;
  const CpuKvTable* table_;
  KvLayout layout_;
  int64_t bytes_;
  std::shared_ptr<std::byte> data_;
};

}  // namespace heartmula::cpu

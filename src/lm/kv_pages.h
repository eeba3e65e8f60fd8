// Which streams have which pages of the cache: a page is a block of positions of one stream, in every layer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lm/config.h"
#include "ops/ops.h"

namespace heartmula {

/// Pages that hold so many positions of a stream.
constexpr int64_t pages_of(int64_t positions) {
  return (positions + kKvBlock - 1) / kKvBlock;
}

/// Of one page, in all layers: keys and values.
inline int64_t page_bytes(const TransformerConfig& config, DType dtype) {
  return 2 * kKvBlock * config.num_layers * config.kv_dim() * static_cast<int64_t>(dtype_size(dtype));
}

class KvPages {
 public:
  /// `pages` of all streams together, of at most `pages_of_stream` each.
  KvPages(Ops& ops, int64_t streams, int64_t pages_of_stream, int64_t pages);

  const KvTable* table() const { return table_.get(); }
  int64_t count() const { return count_; }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  /// Of a stream, in the order of its positions.
  std::span<const int32_t> of(int64_t stream) const { return held_[static_cast<size_t>(stream)]; }

  /// `pages` for each of some streams that lie together; false, and nothing has changed, if too few are free.
  bool extend(int64_t first_stream, int64_t streams, int64_t pages);
  void release(int64_t first_stream, int64_t streams);

 private:
  Ops& ops_;
  int64_t count_;
  std::unique_ptr<KvTable> table_;
  std::vector<int32_t> free_;               // the next one last
  std::vector<std::vector<int32_t>> held_;  // by each stream
};

}  // namespace heartmula

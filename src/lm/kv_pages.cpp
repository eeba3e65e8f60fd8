#include "lm/kv_pages.h"

#include <algorithm>
#include <iterator>

namespace heartmula {

KvPages::KvPages(Ops& ops, int64_t streams, int64_t pages_of_stream, int64_t pages)
    : ops_(ops),
      count_(pages),
      table_(ops.make_kv_table(streams, pages_of_stream)),
      held_(static_cast<size_t>(streams)) {
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
  for (std::vector<int32_t>& held : held_) held.reserve(static_cast<size_t>(pages_of_stream));
}

bool KvPages::extend(int64_t first_stream, int64_t streams, int64_t pages) {
  int64_t missing = 0;
  for (int64_t stream = first_stream; stream < first_stream + streams; ++stream) {
    missing += std::max<int64_t>(0, pages - std::ssize(of(stream)));
  }
  if (missing > free()) return false;
  for (int64_t stream = first_stream; stream < first_stream + streams; ++stream) {
    std::vector<int32_t>& held = held_[static_cast<size_t>(stream)];
    const auto before = std::ssize(held);
    if (before >= pages) continue;
    for (int64_t i = before; i < pages; ++i) {
      held.push_back(free_.back());
      free_.pop_back();
    }
    ops_.set_kv_places(*table_, stream, before, std::span(held).subspan(static_cast<size_t>(before)));
  }
  return true;
}

void KvPages::release(int64_t first_stream, int64_t streams) {
  for (int64_t stream = first_stream; stream < first_stream + streams; ++stream) {
    std::vector<int32_t>& held = held_[static_cast<size_t>(stream)];
    free_.insert(free_.end(), held.rbegin(), held.rend());
    held.clear();
  }
}

}  // namespace heartmula

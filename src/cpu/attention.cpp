#include "cpu/attention.h"

#include <atomic>

namespace heartmula::cpu {
namespace {

constexpr int64_t kOperationsAtOnce = 8;  // of attention, against what for_each counts
constexpr int64_t kMostQueries = 48;      // of one call of the kernel: as many share each block of keys

const float* floats_at(ConstView x, int64_t row, int64_t col) {
  return floats_of(x.slice_rows(row, 1).slice_cols(col, 1));
}

/// A head of a row at `position` that sees the first `count` positions.
Query query_of(View out, ConstView queries, const Rope& rope, int64_t row, int64_t position, int64_t head,
               int64_t head_dim, int64_t count) {
  return {floats_at(queries, row, head * head_dim), floats_at(rope.cos, position, 0), floats_at(rope.sin, position, 0),
          out.slice_rows(row, 1).slice_cols(head * head_dim, head_dim).data, count};
}

KeyValue key_value_of(ConstView keys, ConstView values, const Rope& rope, int64_t row, int64_t position, int64_t head,
                      int64_t head_dim) {
  return {floats_at(keys, row, head * head_dim), floats_at(values, row, head * head_dim),
          floats_at(rope.cos, position, 0), floats_at(rope.sin, position, 0)};
}

/// What one worker needs for a call of the kernel: the queries, which share a key head, and scratch behind them.
class Workspace {
 public:
  Workspace(Device& device, const KeyValues& kv, int64_t most_queries)
      : device_(device), query_bytes_((static_cast<size_t>(most_queries) * sizeof(Query) + 63) / 64 * 64) {
    device.reserve_scratch(query_bytes_ + device.kernels.attend_scratch_bytes(kv, most_queries));
  }

  Query* queries(int worker) const { return static_cast<Query*>(device_.scratch(worker)); }
  void* scratch(int worker) const { return static_cast<std::byte*>(device_.scratch(worker)) + query_bytes_; }

 private:
  Device& device_;
  size_t query_bytes_;
};

/// Causal attention of some rows, cut into groups of rows that lie together and key heads.
class CausalAttention {
 public:
  CausalAttention(Device& device, View out, ConstView queries, const Rope& rope, const CpuKvCache& cache,
                  std::span<const Row> rows)
      : device_(device),
        out_(out),
        queries_(queries),
        rope_(rope),
        cache_(cache),
        rows_(rows),
        kv_heads_(cache.shape().kv_heads),
        shared_(queries.cols / cache.shape().head_dim / kv_heads_),
        group_(std::clamp<int64_t>(count() * kv_heads_ / (4 * device.pool.threads()), 1,
                                   std::max<int64_t>(1, kMostQueries / shared_))),
        groups_(divide_up(count(), group_)),
        workspace_(device, cache.head(0, 0), group_ * shared_) {
    for (const Row& row : rows) {
      blocks_ = std::max(blocks_, divide_up(row.position + 1, kKeyBlock));
      cost_ += queries.cols * (row.position + 1) / kOperationsAtOnce;
    }
  }

  void run() {
    const int64_t heads = groups_ * kv_heads_;
    const int64_t enough = 4 * device_.pool.threads();
    if (cost_ < kChunkCost) {
      device_.pool.parallel_for(1, [&](int64_t, int worker) {
        for (int64_t head = 0; head < heads; ++head) attend_whole(head, worker);
      });
    } else if (heads >= enough || blocks_ == 1) {
      // The last rows see most.
      device_.pool.parallel_for(heads, [&](int64_t chunk, int worker) { attend_whole(heads - 1 - chunk, worker); });
    } else {
      attend_in_pieces(std::min(blocks_, divide_up(2 * enough, heads)));
    }
  }

 private:
  int64_t count() const { return static_cast<int64_t>(rows_.size()); }

  /// Calls body(kv, queries, count, index of the first one) for the queries of each stream in a group and key head.
  template <typename Body>
  void for_each_stream(int64_t head, int worker, const Body& body) const {
    const int64_t kv_head = head % kv_heads_;
    const int64_t begin = head / kv_heads_ * group_;
    const int64_t end = std::min(count(), begin + group_);
    const int64_t head_dim = cache_.shape().head_dim;
    for (int64_t first = begin; first < end;) {
      const int64_t stream = rows_[static_cast<size_t>(first)].stream;
      Query* query = workspace_.queries(worker);
      int64_t row = first;
      for (; row < end && rows_[static_cast<size_t>(row)].stream == stream; ++row) {
        const int64_t position = rows_[static_cast<size_t>(row)].position;
        for (int64_t h = kv_head * shared_; h < (kv_head + 1) * shared_; ++h) {
          *query++ = query_of(out_, queries_, rope_, row, position, h, head_dim, position + 1);
        }
      }
      body(cache_.head(stream, kv_head), workspace_.queries(worker), (row - first) * shared_,
           (first - begin) * shared_);
      first = row;
    }
  }

  void attend_whole(int64_t head, int worker) const {
    for_each_stream(head, worker, [&](const KeyValues& kv, const Query* queries, int64_t queries_count, int64_t) {
      device_.kernels.attend(kv, queries, queries_count, element_of(out_.dtype), workspace_.scratch(worker));
    });
  }

  /// Few rows and many keys: the blocks of keys are shared out, too. Who finishes a head's last piece joins its parts.
  void attend_in_pieces(int64_t pieces) {
    const int64_t heads = groups_ * kv_heads_;
    const int64_t part = device_.kernels.attend_part_floats(cache_.head(0, 0));
    const int64_t stride = group_ * shared_ * part;
    const size_t parts_bytes = static_cast<size_t>(heads * blocks_ * stride) * sizeof(float);
    device_.shared.reserve(parts_bytes + static_cast<size_t>(heads) * sizeof(std::atomic<int64_t>));
    auto* parts = static_cast<float*>(device_.shared.data());
    auto* done = reinterpret_cast<std::atomic<int64_t>*>(static_cast<std::byte*>(device_.shared.data()) + parts_bytes);
    for (int64_t head = 0; head < heads; ++head) new (done + head) std::atomic<int64_t>(0);

    device_.pool.parallel_for(heads * pieces, [&](int64_t chunk, int worker) {
      const int64_t head = chunk / pieces;
      const int64_t piece = chunk % pieces;
      const auto range_of = [&](const Query* queries, int64_t queries_count, int64_t first) {
        int64_t longest = 0;
        for (int64_t i = 0; i < queries_count; ++i) longest = std::max(longest, queries[i].count);
        const int64_t blocks = divide_up(longest, kKeyBlock);
        return BlockRange{blocks * piece / pieces, blocks * (piece + 1) / pieces,
                          parts + head * blocks_ * stride + first * part, stride};
      };
      for_each_stream(head, worker, [&](const KeyValues& kv, const Query* queries, int64_t n, int64_t first) {
        device_.kernels.attend_blocks(kv, queries, n, range_of(queries, n, first), workspace_.scratch(worker));
      });
      if (done[head].fetch_add(1, std::memory_order_acq_rel) + 1 < pieces) return;
      for_each_stream(head, worker, [&](const KeyValues& kv, const Query* queries, int64_t n, int64_t first) {
        device_.kernels.attend_join(kv, queries, n, range_of(queries, n, first), element_of(out_.dtype));
      });
    });
  }

  Device& device_;
  View out_;
  ConstView queries_;
  const Rope& rope_;
  const CpuKvCache& cache_;
  std::span<const Row> rows_;
  int64_t kv_heads_;
  int64_t shared_;  // query heads of a key head
  int64_t group_;   // rows: many share the work on keys, but not so many that threads stand idle
  int64_t groups_;
  Workspace workspace_;
  int64_t blocks_ = 0;  // of keys that the longest row sees
  int64_t cost_ = 0;
};

}  // namespace

void append_kv(Device& device, CpuKvCache& cache, ConstView keys, ConstView values, const Rope& rope,
               std::span<const Row> rows) {
  const int64_t kv_heads = cache.shape().kv_heads;
  const int64_t head_dim = cache.shape().head_dim;
  int64_t most_repeats = 1;
  for (const Row& row : rows) most_repeats = std::max<int64_t>(most_repeats, row.repeat);
  const auto items = static_cast<int64_t>(rows.size()) * kv_heads;
  device.for_each(items, 4 * head_dim * most_repeats, [&](int64_t item, int) {
    const int64_t r = item / kv_heads;
    const int64_t kv_head = item % kv_heads;
    const Row& row = rows[static_cast<size_t>(r)];
    const KeyValues kv = cache.head(row.stream, kv_head);
    for (int64_t position = row.position; position < row.position + row.repeat; ++position) {
      device.kernels.append(kv, position, key_value_of(keys, values, rope, r, position, kv_head, head_dim));
    }
  });
}

void attend(Device& device, View out, ConstView queries, const Rope& rope, const CpuKvCache& cache,
            std::span<const Row> rows) {
  CausalAttention(device, out, queries, rope, cache, rows).run();
}

void attend_all(Device& device, View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                int64_t heads) {
  const int64_t head_dim = queries.cols / heads;
  const int64_t rows = keys.rows;
  const KvLayout layout(device.kernels, out.dtype, heads, rows, head_dim);
  device.shared.reserve(static_cast<size_t>(layout.bytes));
  void* packed = device.shared.data();

  // A panel of positions of one head at a time: its lanes share cache lines.
  const int64_t panels = divide_up(rows, layout.panel_width);
  device.for_each(heads * panels, 4 * head_dim * layout.panel_width, [&](int64_t item, int) {
    const int64_t head = item / panels;
    const int64_t first = item % panels * layout.panel_width;
    const KeyValues kv = layout.head(packed, head);
    for (int64_t row = first; row < std::min(rows, first + layout.panel_width); ++row) {
      device.kernels.append(kv, row, key_value_of(keys, values, rope, row, row, head, head_dim));
    }
  });

  const int64_t groups = divide_up(queries.rows, kMostQueries);
  const Workspace workspace(device, layout.head(packed, 0), kMostQueries);
  device.pool.parallel_for(groups * heads, [&](int64_t chunk, int worker) {
    const int64_t head = chunk / groups;
    const int64_t first = chunk % groups * kMostQueries;
    const int64_t end = std::min(queries.rows, first + kMostQueries);
    Query* query = workspace.queries(worker);
    for (int64_t row = first; row < end; ++row) {
      *query++ = query_of(out, queries, rope, row, row, head, head_dim, rows);
    }
    device.kernels.attend(layout.head(packed, head), workspace.queries(worker), end - first, element_of(out.dtype),
                          workspace.scratch(worker));
  });
}

}  // namespace heartmula::cpu

#include "cpu/attention.h"

namespace heartmula::cpu {
namespace {

constexpr int64_t kMostQueries = 48;  // of one call of the kernel: as many share each block of keys

const float* floats_at(ConstView x, int64_t row, int64_t col) {
  return floats_of(x.slice_rows(row, 1).slice_cols(col, 1));
}

/// The kernel on queries that share a key head. The queries stand at the front of the worker's scratch.
class AttendCall {
 public:
  AttendCall(Device& device, const KeyValues& kv, int64_t most_queries)
      : device_(device), query_bytes_((static_cast<size_t>(most_queries) * sizeof(Query) + 63) / 64 * 64) {
    device.reserve_scratch(query_bytes_ + device.kernels.attend_scratch_bytes(kv, most_queries));
  }

  Query* queries(int worker) const { return static_cast<Query*>(device_.scratch(worker)); }

  void operator()(const KeyValues& kv, int64_t count, DType out, int worker) const {
    auto* rest = static_cast<std::byte*>(device_.scratch(worker)) + query_bytes_;
    device_.kernels.attend(kv, queries(worker), count, element_of(out), rest);
  }

 private:
  Device& device_;
  size_t query_bytes_;
};

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
  const int64_t kv_heads = cache.shape().kv_heads;
  const int64_t head_dim = cache.shape().head_dim;
  const int64_t shared = queries.cols / head_dim / kv_heads;  // query heads of a key head
  const auto count = static_cast<int64_t>(rows.size());
  // Rows of a stream go together, but not so many that threads stand idle.
  const int64_t most_rows = std::max<int64_t>(1, kMostQueries / shared);
  const int64_t group = std::clamp<int64_t>(count * kv_heads / (4 * device.pool.threads()), 1, most_rows);
  const int64_t groups = (count + group - 1) / group;

  const AttendCall call(device, cache.head(0, 0), group * shared);
  device.pool.parallel_for(groups * kv_heads, [&](int64_t chunk, int worker) {
    const int64_t kv_head = chunk % kv_heads;
    const int64_t begin = chunk / kv_heads * group;
    const int64_t end = std::min(count, begin + group);
    for (int64_t first = begin; first < end;) {
      const int64_t stream = rows[static_cast<size_t>(first)].stream;
      Query* query = call.queries(worker);
      int64_t row = first;
      for (; row < end && rows[static_cast<size_t>(row)].stream == stream; ++row) {
        const int64_t position = rows[static_cast<size_t>(row)].position;
        for (int64_t h = kv_head * shared; h < (kv_head + 1) * shared; ++h) {
          *query++ = query_of(out, queries, rope, row, position, h, head_dim, position + 1);
        }
      }
      call(cache.head(stream, kv_head), (row - first) * shared, out.dtype, worker);
      first = row;
    }
  });
}

void attend_all(Device& device, View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                int64_t heads) {
  const int64_t head_dim = queries.cols / heads;
  const int64_t rows = keys.rows;
  const KvLayout layout(device.kernels, out.dtype, heads, rows, head_dim);
  device.shared.reserve(static_cast<size_t>(layout.bytes));
  void* packed = device.shared.data();

  // A panel of positions of one head at a time: its lanes share cache lines.
  const int64_t panels = (rows + layout.panel_width - 1) / layout.panel_width;
  device.for_each(heads * panels, 4 * head_dim * layout.panel_width, [&](int64_t item, int) {
    const int64_t head = item / panels;
    const int64_t first = item % panels * layout.panel_width;
    const KeyValues kv = layout.head(packed, heads, head);
    for (int64_t row = first; row < std::min(rows, first + layout.panel_width); ++row) {
      device.kernels.append(kv, row, key_value_of(keys, values, rope, row, row, head, head_dim));
    }
  });

  const int64_t groups = (queries.rows + kMostQueries - 1) / kMostQueries;
  const AttendCall call(device, layout.head(packed, heads, 0), kMostQueries);
  device.pool.parallel_for(groups * heads, [&](int64_t chunk, int worker) {
    const int64_t head = chunk / groups;
    const int64_t first = chunk % groups * kMostQueries;
    const int64_t end = std::min(queries.rows, first + kMostQueries);
    Query* query = call.queries(worker);
    for (int64_t row = first; row < end; ++row) {
      *query++ = query_of(out, queries, rope, row, row, head, head_dim, rows);
    }
    call(layout.head(packed, heads, head), end - first, out.dtype, worker);
  });
}

}  // namespace heartmula::cpu

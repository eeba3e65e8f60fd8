#include "cpu/attention.h"

#include <cstring>

namespace heartmula::cpu {
namespace {

constexpr int64_t kMostQueries = 48;  // of one call of the kernel: as many share each block of keys

const float* rope_row(ConstView table, int64_t position) {
  return static_cast<const float*>(table.slice_rows(position, 1).data);
}

/// The kernel on queries that share a key head. The queries stand at the front of the worker's scratch.
class AttendCall {
 public:
  AttendCall(Device& device, const KeyValues& kv, int64_t most_queries)
      : device_(device), query_bytes_((static_cast<size_t>(most_queries) * sizeof(Query) + 63) / 64 * 64) {
    device.reserve_scratch(query_bytes_ + device.kernels.attend_scratch_bytes(kv, most_queries));
  }

  Query* queries(int worker) const { return static_cast<Query*>(device_.scratch(worker)); }

  void operator()(const KeyValues& kv, int64_t count, DType q, DType out, int worker) const {
    auto* rest = static_cast<std::byte*>(device_.scratch(worker)) + query_bytes_;
    device_.kernels.attend(kv, queries(worker), count, element_of(q), element_of(out), rest);
  }

 private:
  Device& device_;
  size_t query_bytes_;
};

Query query_of(View out, ConstView queries, int64_t row, int64_t head, int64_t head_dim, int64_t count) {
  return {queries.slice_rows(row, 1).slice_cols(head * head_dim, head_dim).data,
          out.slice_rows(row, 1).slice_cols(head * head_dim, head_dim).data, count};
}

}  // namespace

void rotate(Device& device, View x, const Rope& rope, std::span<const int32_t> positions) {
  const int64_t head_dim = 2 * rope.cos.cols();
  device.for_each(x.rows, x.cols, [&](int64_t row, int) {
    const int64_t position = positions[static_cast<size_t>(row)];
    device.kernels.rotate(row_of(x, row), rope_row(rope.cos, position), rope_row(rope.sin, position), x.cols / head_dim,
                          head_dim);
  });
}

void append_kv(Device& device, CpuKvCache& cache, ConstView keys, ConstView values, const Rope& rope,
               std::span<const Row> rows) {
  const int64_t kv_heads = cache.shape().kv_heads;
  const int64_t head_dim = cache.shape().head_dim;
  const Kernels& kernels = device.kernels;
  int64_t most_repeats = 1;
  for (const Row& row : rows) most_repeats = std::max<int64_t>(most_repeats, row.repeat);
  device.reserve_scratch(static_cast<size_t>(3 * head_dim) * sizeof(float));
  const auto items = static_cast<int64_t>(rows.size()) * kv_heads;
  device.for_each(items, 4 * head_dim * most_repeats, [&](int64_t item, int worker) {
    const int64_t r = item / kv_heads;
    const int64_t kv_head = item % kv_heads;
    const Row& row = rows[static_cast<size_t>(r)];
    float* key = static_cast<float*>(device.scratch(worker));
    float* value = key + head_dim;
    float* rotated = value + head_dim;
    kernels.copy({key}, row_of(keys.slice_cols(kv_head * head_dim, head_dim), r), head_dim);
    kernels.copy({value}, row_of(values.slice_cols(kv_head * head_dim, head_dim), r), head_dim);
    for (int64_t position = row.position; position < row.position + row.repeat; ++position) {
      std::memcpy(rotated, key, static_cast<size_t>(head_dim) * sizeof(float));
      kernels.rotate({rotated}, rope_row(rope.cos, position), rope_row(rope.sin, position), 1, head_dim);
      cache.layout().store(cache.data(), cache.heads(), cache.head_index(row.stream, kv_head), position, rotated,
                           value);
    }
  });
}

void attend(Device& device, View out, ConstView queries, const CpuKvCache& cache, std::span<const Row> rows) {
  const int64_t kv_heads = cache.shape().kv_heads;
  const int64_t head_dim = cache.shape().head_dim;
  const int64_t shared = queries.cols / head_dim / kv_heads;  // query heads of a key head
  const auto count = static_cast<int64_t>(rows.size());
  // Rows of a stream go together, but not so many that threads stand idle.
  const int64_t most_rows = std::max<int64_t>(1, kMostQueries / shared);
  const int64_t group = std::clamp<int64_t>(count * kv_heads / (4 * device.pool.threads()), 1, most_rows);
  const int64_t groups = (count + group - 1) / group;

  const AttendCall call(device, cache.layout().head(cache.data(), cache.heads(), 0), group * shared);
  device.pool.parallel_for(groups * kv_heads, [&](int64_t chunk, int worker) {
    const int64_t kv_head = chunk % kv_heads;
    const int64_t begin = chunk / kv_heads * group;
    const int64_t end = std::min(count, begin + group);
    for (int64_t first = begin; first < end;) {
      const int64_t stream = rows[static_cast<size_t>(first)].stream;
      Query* query = call.queries(worker);
      int64_t row = first;
      for (; row < end && rows[static_cast<size_t>(row)].stream == stream; ++row) {
        const int64_t visible = int64_t{rows[static_cast<size_t>(row)].position} + 1;
        for (int64_t h = kv_head * shared; h < (kv_head + 1) * shared; ++h) {
          *query++ = query_of(out, queries, row, h, head_dim, visible);
        }
      }
      const KeyValues kv = cache.layout().head(cache.data(), cache.heads(), cache.head_index(stream, kv_head));
      call(kv, (row - first) * shared, queries.dtype, out.dtype, worker);
      first = row;
    }
  });
}

void attend_all(Device& device, View out, ConstView queries, ConstView keys, ConstView values, int64_t heads) {
  const int64_t head_dim = queries.cols / heads;
  const int64_t rows = keys.rows;
  const KvLayout layout(device.kernels, keys.dtype, heads, rows, head_dim);
  device.shared.reserve(static_cast<size_t>(layout.bytes));
  device.reserve_scratch(static_cast<size_t>(2 * head_dim + layout.value_stride) * sizeof(float));
  void* packed = device.shared.data();

  // A panel of positions of one head at a time: its lanes share cache lines.
  const int64_t panels = (rows + layout.panel_width - 1) / layout.panel_width;
  device.for_each(heads * panels, 4 * head_dim * layout.panel_width, [&](int64_t item, int worker) {
    const int64_t head = item / panels;
    const int64_t first = item % panels * layout.panel_width;
    float* key = static_cast<float*>(device.scratch(worker));
    float* value = key + head_dim;
    for (int64_t row = first; row < std::min(rows, first + layout.panel_width); ++row) {
      device.kernels.copy({key}, row_of(keys.slice_cols(head * head_dim, head_dim), row), head_dim);
      device.kernels.copy({value}, row_of(values.slice_cols(head * head_dim, head_dim), row), head_dim);
      layout.store(packed, heads, head, row, key, value);
    }
  });

  const int64_t groups = (queries.rows + kMostQueries - 1) / kMostQueries;
  const AttendCall call(device, layout.head(packed, heads, 0), kMostQueries);
  device.pool.parallel_for(groups * heads, [&](int64_t chunk, int worker) {
    const int64_t head = chunk / groups;
    const int64_t first = chunk % groups * kMostQueries;
    const int64_t end = std::min(queries.rows, first + kMostQueries);
    Query* query = call.queries(worker);
    for (int64_t row = first; row < end; ++row) *query++ = query_of(out, queries, row, head, head_dim, rows);
    call(layout.head(packed, heads, head), end - first, queries.dtype, out.dtype, worker);
  });
}

}  // namespace heartmula::cpu

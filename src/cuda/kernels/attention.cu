// A block for (row, heads, chunk of 256 positions), up to four query heads that share a key head at once, so that keys
// and values are read once. The last block of a row and head to finish joins the chunks in ascending order. The grid
// is for the cache's capacity, blocks beyond the row's position return at once: one recorded launch serves them all.
//
// What a thread reads of keys and values are groups of 8 elements (16 bytes in bf16), several of them before it uses
// the first: the time is all waiting. Order of sums: a score's products by lane i of 8 for groups i, i + 8, ..., then a
// butterfly; values in ascending positions within parts of a chunk (their number depends on head_dim alone), parts and
// chunks in ascending order.
#include <algorithm>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/attention_chunk.h"
#include "cuda/kernels/attention_join.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

__global__ void __launch_bounds__(kThreads) append_kernel(Attention a) {
  start_next();
  wait_for_previous();
  const Row row = a.rows[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = static_cast<int>(blockIdx.z); i < row.repeat; i += static_cast<int>(gridDim.z)) {
    append(a, static_cast<int>(blockIdx.x), row.stream, static_cast<int>(blockIdx.y), row.position + i, thread);
  }
}

template <bool kBf16, bool kEven, int kShared>
__global__ void __launch_bounds__(kThreads) attend_kernel(Attention a) {
  __shared__ bool last_block;
  __shared__ float totals[2 * kShared];  // greatest scores, sums of weights
  start_next();
  wait_for_previous();
  const int row_index = static_cast<int>(blockIdx.x);
  const int block = static_cast<int>(blockIdx.y);
  const int kv_head = block / (a.blocks / a.kv_heads);
  const int chunk = static_cast<int>(blockIdx.z);
  const int thread = static_cast<int>(threadIdx.x);
  const Row row = a.rows[row_index];
  const int chunks = row.position / kChunk + 1;
  if (chunk >= chunks) return;

  const int first = chunk * kChunk;
  const bool brings = a.keys != nullptr && chunk + 1 == chunks;
  const int count = row.position + 1 - first < kChunk ? row.position + 1 - first : kChunk;
  const int cached = brings ? count - 1 : count;
  const int64_t first_byte = 2 * pair_of(a, row.stream, kv_head, first) * (kBf16 ? 2 : 4);
  const void* key_rows = static_cast<const unsigned char*>(a.cached_keys) + first_byte;
  const void* value_rows = static_cast<const unsigned char*>(a.cached_values) + first_byte;
  KeyReads<kBf16, kEven> keys;
  keys.load(a, key_rows, thread / kKeyLanes, thread % kKeyLanes, cached);

  const int padded = groups_of(a.head_dim) * kGroup;
  auto* queries = reinterpret_cast<float*>(dynamic_shared());
  float* scores = queries + kShared * padded;
  float* parts = scores + kShared * kChunk;
  float* brought = parts + parts_of(a.head_dim) * kShared * padded;  // key and value
  const float* query = a.queries + row_index * a.query_stride + static_cast<int64_t>(block) * kShared * a.head_dim;
  HEARTMULA_KEEP_LOOP
  for (int i = thread; i < kShared * padded / 2; i += kThreads) {
    const int h = i / (padded / 2);
    const int pair = i % (padded / 2);
    float2 q = {0.0f, 0.0f};
    if (2 * pair < a.head_dim) q = rounded(rotated(a, query + h * a.head_dim, pair, row.position), kBf16);
    reinterpret_cast<float2*>(queries)[i] = q;
  }
  if (brings) {
    append(a, row_index, row.stream, kv_head, row.position, thread, brought, brought + padded);
  }
  const Fresh fresh = {brought, brought + padded, brings ? row.position - first : -1};
  sync_block();
  scores_of_chunk<kBf16, kEven, kShared>(a, keys, queries, fresh, scores, key_rows, count, thread);
  ValueReads<kBf16, kEven> values;
  const ValueItem item(thread, a.head_dim, cached);
  if (thread < parts_of(a.head_dim) * groups_of(a.head_dim)) values.load(a, value_rows, item.first, item);
  sync_block();
  weigh_scores<kShared>(scores, totals, thread);
  sync_block();
  sum_values<kBf16, kEven, kShared>(a, values, scores, fresh, parts, value_rows, count, thread);
  sync_block();
  finish_chunk<kThreads, 1>(a, row_index, block, chunk, chunks, totals, last_block, thread,
                            [&](int i) { return sum_of_parts(a, parts, i); });
}

/// Query heads of one key head that a block takes.
int heads_at_once(int shared, bool even) {
  if (!even) return 1;
  for (const int count : {4, 3, 2}) {
    if (shared % count == 0) return count;
  }
  return 1;
}

using AttendKernel = void (*)(Attention);

template <bool kBf16>
AttendKernel kernel_for(int heads, bool even) {
  constexpr AttendKernel kKernels[] = {attend_kernel<kBf16, true, 1>, attend_kernel<kBf16, true, 2>,
                                       attend_kernel<kBf16, true, 3>, attend_kernel<kBf16, true, 4>};
  return even ? kKernels[heads - 1] : attend_kernel<kBf16, false, 1>;
}

Attention describe(const CacheView& cache, ConstView keys, ConstView values, const Rope& rope, const Row* rows) {
  const ConstView cosines = rope.cos;
  const ConstView sines = rope.sin;
  Attention a = {};
  a.keys = floats_of(keys);
  a.values = floats_of(values);
  a.kv_stride = keys.stride;
  a.cosines = floats_of(cosines);
  a.sines = floats_of(sines);
  a.rope_stride = cosines.stride;
  a.cached_keys = cache.keys;
  a.cached_values = cache.values;
  a.places = cache.places;
  a.blocks_of_stream = static_cast<int>(cache.blocks_of_stream);
  a.capacity = cache.shape.capacity;
  a.kv_heads = static_cast<int>(cache.shape.kv_heads);
  a.head_dim = static_cast<int>(cache.shape.head_dim);
  a.bf16 = cache.shape.dtype == DType::kBF16;
  a.rows = rows;
  a.chunks = static_cast<int>((cache.shape.capacity + kChunk - 1) / kChunk);
  return a;
}

}  // namespace

int64_t attention_workspace_floats(const KvShape& shape, int64_t rows, int64_t heads) {
  const int64_t chunks = (shape.capacity + kMatrixChunk - 1) / kMatrixChunk;
  return rows * heads * chunks * (shape.head_dim + 2 + kMostPad);
}

void append_kv(cudaStream_t stream, const CacheView& cache, ConstView keys, ConstView values, const Rope& rope,
               const AttentionRows& rows) {
  const dim3 blocks(static_cast<unsigned>(rows.count), static_cast<unsigned>(cache.shape.kv_heads),
                    static_cast<unsigned>(std::min<int64_t>(rows.most_repeats, 1024)));
  launch(stream, {blocks, dim3(kThreads)}, append_kernel, describe(cache, keys, values, rope, rows.rows));
}

void attend(cudaStream_t stream, View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
            const CacheView& cache, const AttentionRows& rows, float* workspace, int32_t* counters, int most_shared) {
  Attention a = describe(cache, keys, values, rope, rows.rows);
  a.out = out;
  a.queries = floats_of(queries);
  a.query_stride = queries.stride;
  const auto heads = static_cast<int>(queries.cols / cache.shape.head_dim);
  a.workspace = workspace;
  a.counters = counters;
  if (attend_by_matrices(stream, a, heads, rows.count, most_shared)) return;
  const bool even = a.head_dim % kGroup == 0;
  a.shared = heads_at_once(heads / a.kv_heads, even);
  a.blocks = heads / a.shared;
  const AttendKernel kernel = a.bf16 ? kernel_for<true>(a.shared, even) : kernel_for<false>(a.shared, even);
  const dim3 blocks(static_cast<unsigned>(rows.count), static_cast<unsigned>(a.blocks),
                    static_cast<unsigned>(a.chunks));
  const auto shared = static_cast<size_t>(shared_floats(a.shared, a.head_dim)) * sizeof(float);
  launch(stream, {blocks, dim3(kThreads), shared}, kernel, a);
}

}  // namespace heartmula::cuda

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

// Joins the chunks of a row and its heads in ascending order.
__device__ void join_chunks(const Attention& a, int row, int block, int chunks, int thread) {
  const int64_t stride = a.shared * (a.head_dim + 2);
  for (int i = thread; i < a.shared * a.head_dim; i += kThreads) {
    const float* memory = chunk_memory(a, row, block, 0);
    const int h = i / a.head_dim;
    float greatest = -INFINITY;
    for (int first = 0; first < chunks; first += kAtOnce) {
      float scores[kAtOnce];
      HEARTMULA_UNROLL
      for (int c = 0; c < kAtOnce; ++c) {
        scores[c] = first + c < chunks ? load_fresh(memory + (first + c) * stride + h) : -INFINITY;
      }
      HEARTMULA_UNROLL
      for (int c = 0; c < kAtOnce; ++c) greatest = fmaxf(greatest, scores[c]);
    }
    float sum = 0.0f;
    float value = 0.0f;
    for (int first = 0; first < chunks; first += kAtOnce) {
      float scores[kAtOnce];
      float weights[kAtOnce];
      float values[kAtOnce];
      HEARTMULA_UNROLL
      for (int c = 0; c < kAtOnce; ++c) {
        const float* chunk = memory + (first + c) * stride;
        const bool valid = first + c < chunks;
        scores[c] = valid ? load_fresh(chunk + h) : 0.0f;
        weights[c] = valid ? load_fresh(chunk + a.shared + h) : 0.0f;
        values[c] = valid ? load_fresh(chunk + 2 * a.shared + i) : 0.0f;
      }
      HEARTMULA_UNROLL
      for (int c = 0; c < kAtOnce; ++c) {
        if (first + c >= chunks) break;
        const float factor = expf(scores[c] - greatest);
        sum = fmaf(factor, weights[c], sum);
        value = fmaf(factor, values[c], value);
      }
    }
    a.out.store(row, static_cast<int64_t>(block) * a.shared * a.head_dim + i, value / sum);
  }
}

template <bool kBf16, int kShared>
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
  const int64_t first_row = (static_cast<int64_t>(row.stream) * a.kv_heads + kv_head) * a.capacity + first;
  KeyReads<kBf16> keys;
  keys.load(a, first_row, thread / kKeyLanes, thread % kKeyLanes, cached);

  const int padded = groups_of(a.head_dim) * kGroup;
  auto* queries = reinterpret_cast<float*>(dynamic_shared());
  float* scores = queries + kShared * padded;
  float* parts = scores + kShared * kChunk;
  float* brought = parts + parts_of(a.head_dim) * kShared * padded;  // key and value
  const float* query = a.queries + row_index * a.query_stride + static_cast<int64_t>(block) * kShared * a.head_dim;
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
  scores_of_chunk<kBf16, kShared>(a, keys, queries, fresh, scores, first_row, count, thread);
  ValueReads<kBf16> values;
  const ValueItem item(thread, a.head_dim, cached);
  if (thread < parts_of(a.head_dim) * groups_of(a.head_dim)) values.load(a, first_row, item.first, item);
  sync_block();
  weigh_scores(a, scores, totals, thread);
  sync_block();
  sum_values<kBf16, kShared>(a, values, scores, fresh, parts, first_row, count, thread);
  sync_block();
  if (chunks == 1) {
    for (int i = thread; i < kShared * a.head_dim; i += kThreads) {
      a.out.store(row_index, static_cast<int64_t>(block) * kShared * a.head_dim + i,
                  sum_of_parts(a, parts, i) / totals[kShared + i / a.head_dim]);
    }
    return;
  }
  float* memory = chunk_memory(a, row_index, block, chunk);
  if (thread < 2 * kShared) memory[thread] = totals[thread];
  for (int i = thread; i < kShared * a.head_dim; i += kThreads) memory[2 * kShared + i] = sum_of_parts(a, parts, i);
  fence_device();
  sync_block();
  if (thread == 0) {
    int32_t* counter = a.counters + row_index * a.blocks + block;
    last_block = add_and_get(counter, 1) == chunks - 1;
    if (last_block) *counter = 0;  // for the next launch
  }
  sync_block();
  if (last_block) {
    fence_device();
    join_chunks(a, row_index, block, chunks, thread);
  }
}

/// Query heads of one key head that a block takes.
int heads_at_once(int shared) {
  for (const int count : {4, 3, 2}) {
    if (shared % count == 0) return count;
  }
  return 1;
}

using AttendKernel = void (*)(Attention);

template <bool kBf16>
AttendKernel kernel_for(int heads) {
  constexpr AttendKernel kKernels[] = {attend_kernel<kBf16, 1>, attend_kernel<kBf16, 2>, attend_kernel<kBf16, 3>,
                                       attend_kernel<kBf16, 4>};
  return kKernels[heads - 1];
}

Attention describe(const CacheView& cache, ConstView keys, ConstView values, const Rope& rope, const Row* rows) {
  const ConstView cosines = rope.cos;
  const ConstView sines = rope.sin;
  Attention a = {};
  a.keys = static_cast<const float*>(keys.data);
  a.values = static_cast<const float*>(values.data);
  a.kv_stride = keys.stride;
  a.cosines = static_cast<const float*>(cosines.data);
  a.sines = static_cast<const float*>(sines.data);
  a.rope_stride = cosines.stride;
  a.cached_keys = cache.keys;
  a.cached_values = cache.values;
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
  return rows * heads * ((shape.capacity + kChunk - 1) / kChunk) * (shape.head_dim + 2);
}

void append_kv(cudaStream_t stream, const CacheView& cache, ConstView keys, ConstView values, const Rope& rope,
               const AttentionRows& rows) {
  const dim3 blocks(static_cast<unsigned>(rows.count), static_cast<unsigned>(cache.shape.kv_heads),
                    static_cast<unsigned>(std::min<int64_t>(rows.most_repeats, 1024)));
  launch(stream, {blocks, dim3(kThreads)}, append_kernel, describe(cache, keys, values, rope, rows.rows));
}

void attend(cudaStream_t stream, View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
            const CacheView& cache, const AttentionRows& rows, float* workspace, int32_t* counters) {
  Attention a = describe(cache, keys, values, rope, rows.rows);
  a.out = out;
  a.queries = static_cast<const float*>(queries.data);
  a.query_stride = queries.stride;
  const auto heads = static_cast<int>(queries.cols / cache.shape.head_dim);
  a.shared = heads_at_once(heads / a.kv_heads);
  a.blocks = heads / a.shared;
  a.workspace = workspace;
  a.counters = counters;
  const dim3 blocks(static_cast<unsigned>(rows.count), static_cast<unsigned>(a.blocks),
                    static_cast<unsigned>(a.chunks));
  const auto shared = static_cast<size_t>(shared_floats(a.shared, a.head_dim)) * sizeof(float);
  launch(stream, {blocks, dim3(kThreads), shared}, a.bf16 ? kernel_for<true>(a.shared) : kernel_for<false>(a.shared),
         a);
}

}  // namespace heartmula::cuda

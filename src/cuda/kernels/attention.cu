// A block for (row, key head, chunk of 256 positions), all query heads that share the key head at once, so that keys
// and values are read once. The last block of a row and head to finish joins the chunks in ascending order. The grid
// is for the cache's capacity, blocks beyond the row's position return at once: one recorded launch serves them all.
//
// Order of sums: a score's products by lane i of 8 for the pairs i, i + 8, ..., then a butterfly; values in
// ascending positions within the quarters (or finer parts, by head_dim alone) of a chunk, parts and chunks ascending.
#include <algorithm>

#include "cuda/kernels/attention.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 256;     // positions
constexpr int kKeyLanes = 8;    // of a score
constexpr int kMostShared = 8;  // query heads of a key head

struct Attention {
  Out out;
  const float* queries;
  int64_t query_stride;
  const float* keys;  // of the rows, to be appended; or null
  const float* values;
  int64_t kv_stride;
  const float* cosines;
  const float* sines;
  int64_t rope_stride;
  void* cached_keys;
  void* cached_values;
  int64_t capacity;
  int kv_heads;
  int head_dim;
  int shared;  // query heads of a key head
  bool bf16;
  const Row* rows;
  float* workspace;
  int32_t* counters;
  int chunks;
};

// bf16 and f32 caches: a pair of neighbouring elements.
__device__ inline float2 load_pair(const void* data, bool bf16, int64_t pair) {
  if (bf16) {
    const uint32_t word = static_cast<const uint32_t*>(data)[pair];
    return {low_bf16(word), high_bf16(word)};
  }
  return static_cast<const float2*>(data)[pair];
}
__device__ inline float2 rounded(float2 v, bool bf16) {
  if (!bf16) return v;
  const uint32_t word = to_bf16_pair(v.x, v.y);
  return {low_bf16(word), high_bf16(word)};
}
__device__ inline void store_pair(void* data, bool bf16, int64_t pair, float2 v) {
  if (bf16) {
    static_cast<uint32_t*>(data)[pair] = to_bf16_pair(v.x, v.y);
  } else {
    static_cast<float2*>(data)[pair] = v;
  }
}
__device__ inline float2 rotated(const Attention& a, const float* x, int pair, int position) {
  const float cosine = a.cosines[position * a.rope_stride + pair];
  const float sine = a.sines[position * a.rope_stride + pair];
  const float x0 = x[2 * pair];
  const float x1 = x[2 * pair + 1];
  return {x0 * cosine - x1 * sine, x1 * cosine + x0 * sine};
}

/// First pair of a position's key or value.
__device__ inline int64_t pair_of(const Attention& a, int stream, int kv_head, int position) {
  return ((static_cast<int64_t>(stream) * a.kv_heads + kv_head) * a.capacity + position) * (a.head_dim / 2);
}

__device__ inline void append(const Attention& a, int row, int stream, int kv_head, int position, int thread) {
  const int64_t first = pair_of(a, stream, kv_head, position);
  const float* key = a.keys + row * a.kv_stride + kv_head * a.head_dim;
  const float* value = a.values + row * a.kv_stride + kv_head * a.head_dim;
  for (int pair = thread; pair < a.head_dim / 2; pair += kThreads) {
    store_pair(a.cached_keys, a.bf16, first + pair, rotated(a, key, pair, position));
    store_pair(a.cached_values, a.bf16, first + pair, {value[2 * pair], value[2 * pair + 1]});
  }
}

__global__ void __launch_bounds__(kThreads) append_kernel(Attention a) {
  start_next();
  wait_for_previous();
  const Row row = a.rows[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = static_cast<int>(blockIdx.z); i < row.repeat; i += static_cast<int>(gridDim.z)) {
    append(a, static_cast<int>(blockIdx.x), row.stream, static_cast<int>(blockIdx.y), row.position + i, thread);
  }
}

/// Parts of a chunk whose values are summed side by side.
__host__ __device__ constexpr int parts_of(int head_dim) {
  return head_dim / 2 >= kThreads ? 1 : kThreads / (head_dim / 2);
}

// Shared memory: queries [shared][head_dim], scores [shared][kChunk], parts [parts][shared][head_dim].
__host__ __device__ constexpr int shared_floats(int shared, int head_dim) {
  return shared * (head_dim + kChunk + parts_of(head_dim) * head_dim);
}

// A chunk's share in the workspace: for each query head, greatest score, sum of weights, weighted values.
__device__ inline float* chunk_memory(const Attention& a, int row, int kv_head, int chunk) {
  return a.workspace +
         ((static_cast<int64_t>(row) * a.kv_heads + kv_head) * a.chunks + chunk) * a.shared * (a.head_dim + 2);
}

__device__ void scores_of_chunk(const Attention& a, const float* queries, float* scores, int64_t first_pair, int count,
                                int thread) {
  const int lane = thread % kKeyLanes;
  const float scale = 1.0f / sqrtf(static_cast<float>(a.head_dim));
  for (int key = thread / kKeyLanes; key < kChunk; key += kThreads / kKeyLanes) {
    float sums[kMostShared] = {};
    if (key < count) {
      const int64_t pairs = first_pair + static_cast<int64_t>(key) * (a.head_dim / 2);
      for (int pair = lane; pair < a.head_dim / 2; pair += kKeyLanes) {
        const float2 k = load_pair(a.cached_keys, a.bf16, pairs + pair);
        HEARTMULA_UNROLL
        for (int h = 0; h < kMostShared; ++h) {
          if (h >= a.shared) break;
          const float* q = queries + h * a.head_dim + 2 * pair;
          sums[h] = fmaf(q[1], k.y, fmaf(q[0], k.x, sums[h]));
        }
      }
    }
    HEARTMULA_UNROLL
    for (int h = 0; h < kMostShared; ++h) {
      if (h >= a.shared) break;
      float sum = sums[h];
      for (int mask = kKeyLanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
      if (lane == 0) scores[h * kChunk + key] = key < count ? sum * scale : -INFINITY;
    }
  }
}

// Scores to weights; a warp a query head. Leaves greatest score and sum in memory[h], memory[shared + h].
__device__ void weigh_scores(const Attention& a, float* scores, float* memory, int thread) {
  const int lane = thread % kWarp;
  for (int h = thread / kWarp; h < a.shared; h += kThreads / kWarp) {
    float* mine = scores + h * kChunk;
    float greatest = -INFINITY;
    for (int i = lane; i < kChunk; i += kWarp) greatest = fmaxf(greatest, mine[i]);
    for (int mask = kWarp / 2; mask > 0; mask /= 2) greatest = fmaxf(greatest, shuffle_xor(greatest, mask));
    float sum = 0.0f;
    for (int i = lane; i < kChunk; i += kWarp) {
      mine[i] = expf(mine[i] - greatest);
      sum += mine[i];
    }
    for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    if (lane == 0) {
      memory[h] = greatest;
      memory[a.shared + h] = sum;
    }
  }
}

// Weighted values of the chunk, [shared][head_dim], to `result`.
__device__ void sum_values(const Attention& a, const float* scores, float* parts, float* result, int64_t first_pair,
                           int count, int thread) {
  const int pairs = a.head_dim / 2;
  const int part_count = parts_of(a.head_dim);
  const int per_part = (kChunk + part_count - 1) / part_count;
  for (int item = thread; item < part_count * pairs; item += kThreads) {
    const int pair = item % pairs;
    const int part = item / pairs;
    float2 sums[kMostShared] = {};
    const int last = count < (part + 1) * per_part ? count : (part + 1) * per_part;
    for (int key = part * per_part; key < last; ++key) {
      const float2 v = load_pair(a.cached_values, a.bf16, first_pair + static_cast<int64_t>(key) * pairs + pair);
      HEARTMULA_UNROLL
      for (int h = 0; h < kMostShared; ++h) {
        if (h >= a.shared) break;
        const float weight = scores[h * kChunk + key];
        sums[h].x = fmaf(weight, v.x, sums[h].x);
        sums[h].y = fmaf(weight, v.y, sums[h].y);
      }
    }
    HEARTMULA_UNROLL
    for (int h = 0; h < kMostShared; ++h) {
      if (h >= a.shared) break;
      float* place = parts + (part * a.shared + h) * a.head_dim + 2 * pair;
      place[0] = sums[h].x;
      place[1] = sums[h].y;
    }
  }
  sync_block();
  for (int i = thread; i < a.shared * a.head_dim; i += kThreads) {
    float sum = parts[i];
    for (int part = 1; part < part_count; ++part) sum += parts[part * a.shared * a.head_dim + i];
    result[i] = sum;
  }
}

// Joins the chunks of a row and head in ascending order.
__device__ void join_chunks(const Attention& a, int row, int kv_head, int chunks, int thread) {
  for (int i = thread; i < a.shared * a.head_dim; i += kThreads) {
    const int h = i / a.head_dim;
    float greatest = -INFINITY;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      greatest = fmaxf(greatest, load_fresh(chunk_memory(a, row, kv_head, chunk) + h));
    }
    float sum = 0.0f;
    float value = 0.0f;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const float* memory = chunk_memory(a, row, kv_head, chunk);
      const float factor = expf(load_fresh(memory + h) - greatest);
      sum = fmaf(factor, load_fresh(memory + a.shared + h), sum);
      value = fmaf(factor, load_fresh(memory + 2 * a.shared + i), value);
    }
    a.out.store(row, static_cast<int64_t>(kv_head) * a.shared * a.head_dim + i, value / sum);
  }
}

__global__ void __launch_bounds__(kThreads) attend_kernel(Attention a) {
  __shared__ bool last_block;
  start_next();
  wait_for_previous();
  const int row_index = static_cast<int>(blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int chunk = static_cast<int>(blockIdx.z);
  const int thread = static_cast<int>(threadIdx.x);
  const Row row = a.rows[row_index];
  const int chunks = row.position / kChunk + 1;
  if (chunk >= chunks) return;

  auto* queries = reinterpret_cast<float*>(dynamic_shared());
  float* scores = queries + a.shared * a.head_dim;
  float* parts = scores + a.shared * kChunk;
  const float* query = a.queries + row_index * a.query_stride + static_cast<int64_t>(kv_head) * a.shared * a.head_dim;
  for (int i = thread; i < a.shared * a.head_dim / 2; i += kThreads) {
    const int h = i / (a.head_dim / 2);
    const int pair = i % (a.head_dim / 2);
    const float2 q = rounded(rotated(a, query + h * a.head_dim, pair, row.position), a.bf16);
    queries[2 * i] = q.x;
    queries[2 * i + 1] = q.y;
  }
  if (a.keys != nullptr && chunk + 1 == chunks) append(a, row_index, row.stream, kv_head, row.position, thread);
  sync_block();

  const int first = chunk * kChunk;
  const int count = row.position + 1 - first < kChunk ? row.position + 1 - first : kChunk;
  const int64_t first_pair = pair_of(a, row.stream, kv_head, first);
  float* memory = chunk_memory(a, row_index, kv_head, chunk);
  scores_of_chunk(a, queries, scores, first_pair, count, thread);
  sync_block();
  weigh_scores(a, scores, memory, thread);
  sync_block();
  sum_values(a, scores, parts, memory + 2 * a.shared, first_pair, count, thread);
  fence_device();
  sync_block();
  if (thread == 0) {
    int32_t* counter = a.counters + row_index * a.kv_heads + kv_head;
    last_block = add_and_get(counter, 1) == chunks - 1;
    if (last_block) *counter = 0;  // for the next launch
  }
  sync_block();
  if (last_block) {
    fence_device();
    join_chunks(a, row_index, kv_head, chunks, thread);
  }
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
  a.shared = static_cast<int>(queries.cols / cache.shape.head_dim / cache.shape.kv_heads);
  a.workspace = workspace;
  a.counters = counters;
  const dim3 blocks(static_cast<unsigned>(rows.count), static_cast<unsigned>(a.kv_heads),
                    static_cast<unsigned>(a.chunks));
  const auto shared = static_cast<size_t>(shared_floats(a.shared, a.head_dim)) * sizeof(float);
  launch(stream, {blocks, dim3(kThreads), shared}, attend_kernel, a);
}

}  // namespace heartmula::cuda

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
#include "cuda/kernels/attention_group.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 256;   // positions
constexpr int kKeyLanes = 8;  // of a score
constexpr int kAtOnce = 8;    // groups of values that a thread reads before it uses the first

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
  int blocks;  // of query heads
  int shared;  // query heads of a block
  bool bf16;
  const Row* rows;
  float* workspace;
  int32_t* counters;
  int chunks;
};

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
  return groups_of(head_dim) >= kThreads ? 1
                                         : (kThreads / groups_of(head_dim) < 16 ? kThreads / groups_of(head_dim) : 16);
}

// Shared memory: queries [shared][groups * 8], scores [shared][kChunk], parts [parts][shared][groups * 8].
__host__ __device__ constexpr int shared_floats(int shared, int head_dim) {
  return shared * (kChunk + (1 + parts_of(head_dim)) * groups_of(head_dim) * kGroup);
}

// A chunk's share in the workspace: for each query head, greatest score, sum of weights, weighted values.
__device__ inline float* chunk_memory(const Attention& a, int row, int block, int chunk) {
  return a.workspace +
         ((static_cast<int64_t>(row) * a.blocks + block) * a.chunks + chunk) * a.shared * (a.head_dim + 2);
}

template <bool kBf16, int kShared>
__device__ void scores_of_chunk(const Attention& a, const float* queries, float* scores, int64_t first_row, int count,
                                int thread) {
  constexpr int kKeysAtOnce = kBf16 ? 4 : 2;
  const int lane = thread % kKeyLanes;
  const int groups = groups_of(a.head_dim);
  const int padded = groups * kGroup;
  const float scale = 1.0f / sqrtf(static_cast<float>(a.head_dim));
  for (int key = thread / kKeyLanes; key < kChunk; key += kKeysAtOnce * kThreads / kKeyLanes) {
    float sums[kKeysAtOnce][kShared] = {};
    for (int group = lane; group < groups; group += 2 * kKeyLanes) {
      Group<kBf16> k[kKeysAtOnce][2];
      HEARTMULA_UNROLL
      for (int i = 0; i < kKeysAtOnce; ++i) {
        const int at = key + i * kThreads / kKeyLanes;
        HEARTMULA_UNROLL
        for (int j = 0; j < 2; ++j) {
          k[i][j].clear();
          if (at < count && group + j * kKeyLanes < groups) {
            k[i][j].load(a.cached_keys, first_row + at, group + j * kKeyLanes, a.head_dim);
          }
        }
      }
      HEARTMULA_UNROLL
      for (int j = 0; j < 2; ++j) {
        if (group + j * kKeyLanes >= groups) break;
        HEARTMULA_UNROLL
        for (int i = 0; i < kKeysAtOnce; ++i) {
          float v[kGroup];
          k[i][j].get(v);
          HEARTMULA_UNROLL
          for (int h = 0; h < kShared; ++h) {
            const float* q = queries + h * padded + (group + j * kKeyLanes) * kGroup;
            HEARTMULA_UNROLL
            for (int e = 0; e < kGroup; ++e) sums[i][h] = fmaf(q[e], v[e], sums[i][h]);
          }
        }
      }
    }
    HEARTMULA_UNROLL
    for (int i = 0; i < kKeysAtOnce; ++i) {
      const int at = key + i * kThreads / kKeyLanes;
      HEARTMULA_UNROLL
      for (int h = 0; h < kShared; ++h) {
        float sum = sums[i][h];
        for (int mask = kKeyLanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
        if (lane == 0 && at < kChunk) scores[h * kChunk + at] = at < count ? sum * scale : -INFINITY;
      }
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
template <bool kBf16, int kShared>
__device__ void sum_values(const Attention& a, const float* scores, float* parts, float* result, int64_t first_row,
                           int count, int thread) {
  const int groups = groups_of(a.head_dim);
  const int padded = groups * kGroup;
  const int part_count = parts_of(a.head_dim);
  const int per_part = (kChunk + part_count - 1) / part_count;
  for (int item = thread; item < part_count * groups; item += kThreads) {
    const int group = item % groups;
    const int part = item / groups;
    float sums[kShared][kGroup] = {};
    const int last = count < (part + 1) * per_part ? count : (part + 1) * per_part;
    for (int key = part * per_part; key < last; key += kAtOnce) {
      Group<kBf16> v[kAtOnce];
      HEARTMULA_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        v[i].clear();
        if (key + i < last) v[i].load(a.cached_values, first_row + key + i, group, a.head_dim);
      }
      HEARTMULA_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        if (key + i >= last) break;
        float values[kGroup];
        v[i].get(values);
        HEARTMULA_UNROLL
        for (int h = 0; h < kShared; ++h) {
          const float weight = scores[h * kChunk + key + i];
          HEARTMULA_UNROLL
          for (int e = 0; e < kGroup; ++e) sums[h][e] = fmaf(weight, values[e], sums[h][e]);
        }
      }
    }
    HEARTMULA_UNROLL
    for (int h = 0; h < kShared; ++h) {
      float* place = parts + (part * kShared + h) * padded + group * kGroup;
      HEARTMULA_UNROLL
      for (int e = 0; e < kGroup; ++e) place[e] = sums[h][e];
    }
  }
  sync_block();
  for (int i = thread; i < kShared * a.head_dim; i += kThreads) {
    const float* place = parts + i / a.head_dim * padded + i % a.head_dim;
    float sum = place[0];
    for (int part = 1; part < part_count; ++part) sum += place[part * kShared * padded];
    result[i] = sum;
  }
}

// Joins the chunks of a row and head in ascending order.
__device__ void join_chunks(const Attention& a, int row, int block, int chunks, int thread) {
  for (int i = thread; i < a.shared * a.head_dim; i += kThreads) {
    const int h = i / a.head_dim;
    float greatest = -INFINITY;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      greatest = fmaxf(greatest, load_fresh(chunk_memory(a, row, block, chunk) + h));
    }
    float sum = 0.0f;
    float value = 0.0f;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const float* memory = chunk_memory(a, row, block, chunk);
      const float factor = expf(load_fresh(memory + h) - greatest);
      sum = fmaf(factor, load_fresh(memory + a.shared + h), sum);
      value = fmaf(factor, load_fresh(memory + 2 * a.shared + i), value);
    }
    a.out.store(row, static_cast<int64_t>(block) * a.shared * a.head_dim + i, value / sum);
  }
}

template <bool kBf16, int kShared>
__global__ void __launch_bounds__(kThreads) attend_kernel(Attention a) {
  __shared__ bool last_block;
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

  const int padded = groups_of(a.head_dim) * kGroup;
  auto* queries = reinterpret_cast<float*>(dynamic_shared());
  float* scores = queries + kShared * padded;
  float* parts = scores + kShared * kChunk;
  const float* query = a.queries + row_index * a.query_stride + static_cast<int64_t>(block) * kShared * a.head_dim;
  for (int i = thread; i < kShared * padded / 2; i += kThreads) {
    const int h = i / (padded / 2);
    const int pair = i % (padded / 2);
    float2 q = {0.0f, 0.0f};
    if (2 * pair < a.head_dim) q = rounded(rotated(a, query + h * a.head_dim, pair, row.position), kBf16);
    queries[2 * i] = q.x;
    queries[2 * i + 1] = q.y;
  }
  if (a.keys != nullptr && chunk + 1 == chunks) append(a, row_index, row.stream, kv_head, row.position, thread);
  sync_block();

  const int first = chunk * kChunk;
  const int count = row.position + 1 - first < kChunk ? row.position + 1 - first : kChunk;
  const int64_t first_row = (static_cast<int64_t>(row.stream) * a.kv_heads + kv_head) * a.capacity + first;
  float* memory = chunk_memory(a, row_index, block, chunk);
  scores_of_chunk<kBf16, kShared>(a, queries, scores, first_row, count, thread);
  sync_block();
  weigh_scores(a, scores, memory, thread);
  sync_block();
  sum_values<kBf16, kShared>(a, scores, parts, memory + 2 * kShared, first_row, count, thread);
  if (chunks == 1) {
    sync_block();
    join_chunks(a, row_index, block, 1, thread);
    return;
  }
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

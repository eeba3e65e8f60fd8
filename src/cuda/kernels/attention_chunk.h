// What a block of causal attention does with its chunk of keys and values: reads, scores, weights, sums.
#pragma once

#include "cuda/kernels/attention_group.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "ops/ops.h"

namespace heartmula::cuda {

constexpr int kThreads = 256;
constexpr int kChunk = 256;   // positions
constexpr int kKeyLanes = 8;  // of a score
constexpr int kBlock = static_cast<int>(kKvBlock);
static_assert(kBlock % kChunk == 0);

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
  const int32_t* places;  // of blocks, or null
  int blocks_of_stream;
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

/// First pair of a position's key or value; those of a chunk's other positions follow.
__device__ inline int64_t pair_of(const Attention& a, int stream, int kv_head, int position) {
  if (a.places != nullptr) {
    const int64_t place = a.places[static_cast<int64_t>(stream) * a.blocks_of_stream + position / kBlock];
    return ((place * a.kv_heads + kv_head) * kBlock + position % kBlock) * (a.head_dim / 2);
  }
  return ((static_cast<int64_t>(stream) * a.kv_heads + kv_head) * a.capacity + position) * (a.head_dim / 2);
}

/// To the cache, and as it is there to `key_copy` and `value_copy` [groups * 8] unless they are null.
__device__ inline void append(const Attention& a, int row, int stream, int kv_head, int position, int thread,
                              float* key_copy = nullptr, float* value_copy = nullptr) {
  const int64_t first = pair_of(a, stream, kv_head, position);
  const float* key = a.keys + row * a.kv_stride + kv_head * a.head_dim;
  const float* value = a.values + row * a.kv_stride + kv_head * a.head_dim;
  HEARTMULA_KEEP_LOOP
  for (int pair = thread; pair < a.head_dim / 2; pair += kThreads) {
    const float2 k = rotated(a, key, pair, position);
    const float2 v = {value[2 * pair], value[2 * pair + 1]};
    store_pair(a.cached_keys, a.bf16, first + pair, k);
    store_pair(a.cached_values, a.bf16, first + pair, v);
    if (key_copy != nullptr) {
      reinterpret_cast<float2*>(key_copy)[pair] = rounded(k, a.bf16);
      reinterpret_cast<float2*>(value_copy)[pair] = rounded(v, a.bf16);
    }
  }
  if (key_copy == nullptr) return;
  for (int i = a.head_dim + thread; i < groups_of(a.head_dim) * kGroup; i += kThreads) {
    key_copy[i] = value_copy[i] = 0.0f;
  }
}

/// Parts of a chunk whose values are summed side by side.
__host__ __device__ constexpr int parts_of(int head_dim) {
  return groups_of(head_dim) >= kThreads ? 1
                                         : (kThreads / groups_of(head_dim) < 16 ? kThreads / groups_of(head_dim) : 16);
}

// Shared memory: queries [shared][groups * 8], scores [shared][kChunk], parts [parts][shared][groups * 8], and the key
// and value that the row brings [2][groups * 8].
__host__ __device__ constexpr int shared_floats(int shared, int head_dim) {
  return shared * kChunk + (shared * (1 + parts_of(head_dim)) + 2) * groups_of(head_dim) * kGroup;
}

/// The key and value that the row brings along, [2][groups * 8] in shared memory, and where in the chunk they belong.
struct Fresh {
  const float* key;
  const float* value;
  int at;  // -1 for none
};

/// What a thread reads of a chunk's keys before it does anything else: groups `lane` and `lane` + 8 of every 32nd key.
template <bool kBf16, bool kEven>
struct KeyReads {
  static constexpr int kKeys = !kEven ? 1 : kBf16 ? 8 : 4;
  static constexpr int kStep = kThreads / kKeyLanes;
  Group<kBf16, kEven> groups[kKeys][2];

  __device__ void load(const Attention& a, const void* rows, int key, int group, int count) {
    HEARTMULA_UNROLL
    for (int i = 0; i < kKeys; ++i) {
      HEARTMULA_UNROLL
      for (int j = 0; j < 2; ++j) {
        groups[i][j].clear();
        if (key + i * kStep < count && group + j * kKeyLanes < groups_of(a.head_dim)) {
          groups[i][j].load(rows, key + i * kStep, group + j * kKeyLanes, a.head_dim);
        }
      }
    }
  }
};

template <bool kBf16, bool kEven, int kShared>
__device__ void scores_of_chunk(const Attention& a, KeyReads<kBf16, kEven>& reads, const float* queries,
                                const Fresh& fresh, float* scores, const void* rows, int count, int thread) {
  constexpr int kKeys = KeyReads<kBf16, kEven>::kKeys;
  constexpr int kStep = KeyReads<kBf16, kEven>::kStep;
  const int lane = thread % kKeyLanes;
  const int groups = groups_of(a.head_dim);
  const int padded = groups * kGroup;
  const float scale = 1.0f / sqrtf(static_cast<float>(a.head_dim));
  // Conditions that all lanes share, for shuffles among lanes that might part are slow.
  HEARTMULA_KEEP_LOOP
  for (int first = 0; first < kChunk; first += kKeys * kStep) {
    const int key = first + thread / kKeyLanes;
    float sums[kKeys][kShared] = {};
    HEARTMULA_KEEP_LOOP
    for (int first_group = 0; first_group < groups; first_group += 2 * kKeyLanes) {
      const int group = first_group + lane;
      if (first > 0 || first_group > 0) reads.load(a, rows, key, group, count);
      HEARTMULA_UNROLL
      for (int j = 0; j < 2; ++j) {
        // Groups beyond the head are zero, and so may be any number that they are multiplied with.
        const int at_group = group + j * kKeyLanes < groups ? group + j * kKeyLanes : 0;
        float q[kShared][kGroup];
        HEARTMULA_UNROLL
        for (int h = 0; h < kShared; ++h) load_group(q[h], queries + h * padded + at_group * kGroup);
        HEARTMULA_UNROLL
        for (int i = 0; i < kKeys; ++i) {
          float k[kGroup];
          reads.groups[i][j].get(k);
          if (key + i * kStep == fresh.at && group + j * kKeyLanes < groups)
            load_group(k, fresh.key + at_group * kGroup);
          HEARTMULA_UNROLL
          for (int h = 0; h < kShared; ++h) {
            HEARTMULA_UNROLL
            for (int e = 0; e < kGroup; ++e) sums[i][h] = fmaf(q[h][e], k[e], sums[i][h]);
          }
        }
      }
    }
    HEARTMULA_UNROLL
    for (int i = 0; i < kKeys; ++i) {
      const int at = key + i * kStep;
      HEARTMULA_UNROLL
      for (int h = 0; h < kShared; ++h) {
        float sum = sums[i][h];
        for (int mask = kKeyLanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
        if (lane == 0 && at < kChunk) scores[h * kChunk + at] = at < count ? sum * scale : -INFINITY;
      }
    }
  }
}

// Scores to weights; a warp a query head. Leaves greatest score and sum in totals[h], totals[shared + h]. The other
// warps go along and leave nothing, for shuffles among lanes that might part are slow.
template <int kShared>
__device__ void weigh_scores(float* scores, float* totals, int thread) {
  constexpr int kEach = kChunk / kWarp;
  const int lane = thread % kWarp;
  const int h = thread / kWarp < kShared ? thread / kWarp : 0;
  const bool mine = thread / kWarp < kShared;
  float values[kEach];
  float greatest = -INFINITY;
  HEARTMULA_UNROLL
  for (int i = 0; i < kEach; ++i) {
    values[i] = mine ? scores[h * kChunk + lane + i * kWarp] : 0.0f;
    greatest = fmaxf(greatest, values[i]);
  }
  for (int mask = kWarp / 2; mask > 0; mask /= 2) greatest = fmaxf(greatest, shuffle_xor(greatest, mask));
  float sum = 0.0f;
  HEARTMULA_UNROLL
  for (int i = 0; i < kEach; ++i) {
    values[i] = expf(values[i] - greatest);
    sum += values[i];
    if (mine) scores[h * kChunk + lane + i * kWarp] = values[i];
  }
  for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  if (mine && lane == 0) {
    totals[h] = greatest;
    totals[kShared + h] = sum;
  }
}

/// Which values a thread sums: one group of the keys of a part.
struct ValueItem {
  int group;
  int first;  // key
  int last;

  __device__ ValueItem(int item, int head_dim, int count) {
    const int part_count = parts_of(head_dim);
    const int per_part = (kChunk + part_count - 1) / part_count;
    const int part = item / groups_of(head_dim);
    group = item % groups_of(head_dim);
    first = part * per_part;
    last = count < first + per_part ? count : first + per_part;
  }
};

/// What a thread reads of values before the scores are known.
template <bool kBf16, bool kEven>
struct ValueReads {
  static constexpr int kKeys = !kEven ? 1 : kBf16 ? 16 : 8;
  Group<kBf16, kEven> groups[kKeys];

  __device__ void load(const Attention& a, const void* rows, int key, const ValueItem& item) {
    HEARTMULA_UNROLL
    for (int i = 0; i < kKeys; ++i) {
      groups[i].clear();
      if (key + i < item.last) groups[i].load(rows, key + i, item.group, a.head_dim);
    }
  }
};

// Weighted values of the chunk in parts, [parts][shared][groups * 8].
template <bool kBf16, bool kEven, int kShared>
__device__ void sum_values(const Attention& a, ValueReads<kBf16, kEven>& reads, const float* scores, const Fresh& fresh,
                           float* parts, const void* rows, int count, int thread) {
  const int groups = groups_of(a.head_dim);
  const int padded = groups * kGroup;
  HEARTMULA_KEEP_LOOP
  for (int index = thread; index < parts_of(a.head_dim) * groups; index += kThreads) {
    const ValueItem item(index, a.head_dim, count);
    float sums[kShared][kGroup] = {};
    HEARTMULA_KEEP_LOOP
    for (int key = item.first; key < item.last; key += ValueReads<kBf16, kEven>::kKeys) {
      if (index != thread || key != item.first) reads.load(a, rows, key, item);
      HEARTMULA_UNROLL
      for (int i = 0; i < ValueReads<kBf16, kEven>::kKeys; ++i) {
        if (key + i >= item.last) break;
        float values[kGroup];
        reads.groups[i].get(values);
        if (key + i == fresh.at) load_group(values, fresh.value + item.group * kGroup);
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
      store_group(parts + (index / groups * kShared + h) * padded + item.group * kGroup, sums[h]);
    }
  }
}

/// Output `i` of the block: the parts in ascending order.
__device__ inline float sum_of_parts(const Attention& a, const float* parts, int i) {
  const int padded = groups_of(a.head_dim) * kGroup;
  const float* place = parts + i / a.head_dim * padded + i % a.head_dim;
  float sum = place[0];
  for (int part = 1; part < parts_of(a.head_dim); ++part) sum += place[part * a.shared * padded];
  return sum;
}

}  // namespace heartmula::cuda

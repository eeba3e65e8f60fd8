// Causal attention of few rows by mma.m16n8k16, bf16: arithmetic by FMA took longer than the reads. Scores have keys as
// the first operand, straight from the cache (16 bytes a lane, both operands permuted alike), and query heads as the
// second; values come into shared memory meanwhile and are the second operand of weights, which are rounded to bf16.
// A block for (row, key head, chunk of 128 positions), a warp for 16 of the positions; the warps' values are added in
// ascending order.
#include <algorithm>

#include "cuda/kernels/attention_chunk.h"
#include "cuda/kernels/attention_join.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kBlockThreads = kWarps * kWarp;
constexpr int kWarpKeys = kMatrixChunk / kWarps;
constexpr int kTiles = kWarpKeys / 16;
constexpr int kMostHeads = 8;
constexpr int kMostHeadDim = 512;
constexpr int kFewRows = 4;
constexpr int kStepDims = 32;  // of a lane's 16 bytes, four lanes a key
constexpr int kStepsAtOnce = 4;
constexpr int kRowPad = 8;  // values between rows of shared memory, so that they lie in different banks
constexpr int kWeightPitch = kMatrixChunk + kRowPad;

// Shared memory, in this order: values [rows][pitch] and queries [8][pitch], bf16; weights [8][kWeightPitch], bf16;
// scores [8][kMatrixChunk]; the key that the row brings [pitch], bf16; sums [warps][shared][head_dim].
struct Shared {
  uint16_t* values;
  uint16_t* queries;
  uint16_t* weights;
  uint16_t* key;
  float* scores;
  float* parts;
};

__host__ __device__ constexpr int pitch_of(int head_dim) {
  return head_dim + kRowPad;
}
/// Rows of values: those of a chunk, or fewer where the cache has fewer.
__host__ __device__ inline int value_rows(int64_t capacity) {
  return capacity < kMatrixChunk ? (static_cast<int>(capacity) + 15) / 16 * 16 : kMatrixChunk;
}
__host__ __device__ inline int shared_bytes(int head_dim, int shared, int64_t capacity) {
  return (value_rows(capacity) + kMostHeads + 1) * pitch_of(head_dim) * 2 + kMostHeads * kWeightPitch * 2 +
         kMostHeads * kMatrixChunk * 4 + kWarps * shared * head_dim * 4;
}
__device__ inline Shared shared_of(const Attention& a) {
  Shared s = {};
  const int pitch = pitch_of(a.head_dim);
  s.values = reinterpret_cast<uint16_t*>(dynamic_shared());
  s.queries = s.values + value_rows(a.capacity) * pitch;
  s.key = s.queries + kMostHeads * pitch;
  s.weights = s.key + pitch;
  s.scores = reinterpret_cast<float*>(s.weights + kMostHeads * kWeightPitch);
  s.parts = s.scores + kMostHeads * kMatrixChunk;
  return s;
}

// The keys of a warp's tiles of 16, kStepsAtOnce steps from `first_step` on.
struct Keys {
  uint4 words[kStepsAtOnce][kTiles][2];

  __device__ void load(const uint16_t* rows, int head_dim, int first_key, int first_step, int count, int fresh,
                       int lane) {
    HEARTMULA_UNROLL
    for (int step = 0; step < kStepsAtOnce; ++step) {
      HEARTMULA_UNROLL
      for (int i = 0; i < 2 * kTiles; ++i) {
        const int key = first_key + i * 8 + lane / 4;
        const int dim = (first_step + step) * kStepDims + lane % 4 * 8;
        uint4 word = {0, 0, 0, 0};
        if (dim < head_dim && key < count && key != fresh) {
          word = *reinterpret_cast<const uint4*>(rows + key * head_dim + dim);
        }
        words[step][i / 2][i % 2] = word;
      }
    }
  }
  __device__ void place_fresh(const uint16_t* fresh_key, int head_dim, int first_key, int first_step, int fresh,
                              int lane) {
    HEARTMULA_UNROLL
    for (int step = 0; step < kStepsAtOnce; ++step) {
      HEARTMULA_UNROLL
      for (int i = 0; i < 2 * kTiles; ++i) {
        const int dim = (first_step + step) * kStepDims + lane % 4 * 8;
        if (first_key + i * 8 + lane / 4 == fresh && dim < head_dim) {
          words[step][i / 2][i % 2] = *reinterpret_cast<const uint4*>(fresh_key + dim);
        }
      }
    }
  }
  __device__ void multiply(float (&sums)[kTiles][4], const uint16_t* queries, int head_dim, int first_step,
                           int lane) const {
    HEARTMULA_UNROLL
    for (int step = 0; step < kStepsAtOnce; ++step) {
      if ((first_step + step) * kStepDims >= head_dim) break;
      const uint4 q = *reinterpret_cast<const uint4*>(queries + lane / 4 * pitch_of(head_dim) +
                                                      (first_step + step) * kStepDims + lane % 4 * 8);
      HEARTMULA_UNROLL
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint4& top = words[step][tile][0];
        const uint4& low = words[step][tile][1];
        mma_bf16(sums[tile], {top.x, low.x, top.y, low.y}, {q.x, q.y});
        mma_bf16(sums[tile], {top.z, low.z, top.w, low.w}, {q.z, q.w});
      }
    }
  }
};

// Scores to weights, rounded, of one head; those without scores get zeros.
__device__ inline void weigh(const Attention& a, const Shared& s, float* totals, int h, int lane) {
  constexpr int kEach = kMatrixChunk / kWarp;
  const bool mine = h < a.shared;
  float values[kEach];
  float greatest = -INFINITY;
  HEARTMULA_UNROLL
  for (int i = 0; i < kEach; ++i) {
    values[i] = s.scores[(mine ? h : 0) * kMatrixChunk + lane + i * kWarp];
    greatest = fmaxf(greatest, values[i]);
  }
  for (int mask = kWarp / 2; mask > 0; mask /= 2) greatest = fmaxf(greatest, shuffle_xor(greatest, mask));
  float sum = 0.0f;
  HEARTMULA_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const uint16_t weight = mine ? to_bf16(expf(values[i] - greatest)) : uint16_t{0};
    s.weights[h * kWeightPitch + lane + i * kWarp] = weight;
    sum += from_bf16(weight);
  }
  for (int mask = kWarp / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  if (mine && lane == 0) {
    totals[h] = greatest;
    totals[a.shared + h] = sum;
  }
}

// Weighted values of a warp's keys to its part [shared][head_dim].
__device__ inline void sum_values(const Attention& a, const Shared& s, int warp, int lane) {
  const int rows = value_rows(a.capacity);
  const int pitch = pitch_of(a.head_dim);
  float* part = s.parts + warp * a.shared * a.head_dim;
  const int head = lane / 4;
  HEARTMULA_KEEP_LOOP
  for (int dim = 0; dim < a.head_dim; dim += kStepDims) {
    float sums[4][4] = {};
    HEARTMULA_UNROLL
    for (int step = 0; step < kWarpKeys / 16; ++step) {
      const int first = warp * kWarpKeys + step * 16;
      if (first >= rows) break;
      const auto* weights = reinterpret_cast<const uint32_t*>(s.weights + head * kWeightPitch + first + lane % 4 * 2);
      const uint32_t a_words[4] = {weights[0], 0, weights[4], 0};
      HEARTMULA_UNROLL
      for (int half = 0; half < 2; ++half) {
        uint32_t b[4];
        load_matrices_transposed(
            b, s.values + (first + lane / 8 % 2 * 8 + lane % 8) * pitch + dim + half * 16 + lane / 16 * 8);
        mma_bf16(sums[2 * half], a_words, {b[0], b[1]});
        mma_bf16(sums[2 * half + 1], a_words, {b[2], b[3]});
      }
    }
    if (head < a.shared) {
      HEARTMULA_UNROLL
      for (int tile = 0; tile < 4; ++tile) {
        float* place = part + head * a.head_dim + dim + tile * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(place) = {sums[tile][0], sums[tile][1]};
      }
    }
  }
}

/// kBlocks on a multiprocessor: few rows are faster with more registers, many with more blocks.
template <int kBlocks>
__global__ void __launch_bounds__(kBlockThreads, kBlocks) matrix_kernel(Attention a) {
  __shared__ bool last_block;
  __shared__ float totals[2 * kMostHeads];  // greatest scores, sums of weights
  start_next();
  wait_for_previous();
  const int row_index = static_cast<int>(blockIdx.x);
  const int block = static_cast<int>(blockIdx.y);
  const int kv_head = block / (a.blocks / a.kv_heads);
  const int chunk = static_cast<int>(blockIdx.z);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
  const Row row = a.rows[row_index];
  const int chunks = row.position / kMatrixChunk + 1;
  if (chunk >= chunks) return;

  const Shared s = shared_of(a);
  const int pitch = pitch_of(a.head_dim);
  const int first = chunk * kMatrixChunk;
  const int count = row.position + 1 - first < kMatrixChunk ? row.position + 1 - first : kMatrixChunk;
  const bool brings = a.keys != nullptr && chunk + 1 == chunks;
  const int fresh = brings ? count - 1 : -1;  // comes from the row, not from the cache
  const int64_t first_element = 2 * pair_of(a, row.stream, kv_head, first);
  const auto* cached_keys = static_cast<const uint16_t*>(a.cached_keys) + first_element;
  const auto* cached_values = static_cast<const uint16_t*>(a.cached_values) + first_element;

  Keys keys;
  keys.load(cached_keys, a.head_dim, warp * kWarpKeys, 0, count, fresh, lane);
  // Threads share out dimensions first: no divisions in the loops.
  const int groups = a.head_dim / 8;
  const int keys_at_once = kBlockThreads / groups;
  const int dim = thread % groups * 8;
  HEARTMULA_KEEP_LOOP
  for (int key = thread / groups; key < value_rows(a.capacity) && thread < keys_at_once * groups; key += keys_at_once) {
    if (key == fresh) continue;
    copy_async(s.values + key * pitch + dim, cached_values + (key < count ? key * a.head_dim + dim : 0),
               key < count ? 16 : 0);
  }
  commit_copies();

  const float* query = a.queries + row_index * a.query_stride + static_cast<int64_t>(block) * a.shared * a.head_dim;
  const int pairs = a.head_dim / 2;
  HEARTMULA_KEEP_LOOP
  for (int i = thread; i < kMostHeads * pairs; i += kBlockThreads) {
    const int h = i / pairs;
    const int pair = i % pairs;
    uint32_t word = 0;
    if (h < a.shared) {
      const float2 q = rotated(a, query + h * a.head_dim, pair, row.position);
      word = to_bf16_pair(q.x, q.y);
    }
    *reinterpret_cast<uint32_t*>(s.queries + h * pitch + 2 * pair) = word;
  }
  if (brings) {
    const float* key = a.keys + row_index * a.kv_stride + kv_head * a.head_dim;
    const float* value = a.values + row_index * a.kv_stride + kv_head * a.head_dim;
    const int64_t place = pair_of(a, row.stream, kv_head, row.position);
    HEARTMULA_KEEP_LOOP
    for (int pair = thread; pair < a.head_dim / 2; pair += kBlockThreads) {
      const float2 k = rotated(a, key, pair, row.position);
      const uint32_t key_word = to_bf16_pair(k.x, k.y);
      const uint32_t value_word = to_bf16_pair(value[2 * pair], value[2 * pair + 1]);
      static_cast<uint32_t*>(a.cached_keys)[place + pair] = key_word;
      static_cast<uint32_t*>(a.cached_values)[place + pair] = value_word;
      *reinterpret_cast<uint32_t*>(s.key + 2 * pair) = key_word;
      *reinterpret_cast<uint32_t*>(s.values + fresh * pitch + 2 * pair) = value_word;
    }
  }
  sync_block();

  float sums[kTiles][4] = {};
  HEARTMULA_KEEP_LOOP
  for (int step = 0; step * kStepDims < a.head_dim; step += kStepsAtOnce) {
    if (step > 0) keys.load(cached_keys, a.head_dim, warp * kWarpKeys, step, count, fresh, lane);
    if (brings) keys.place_fresh(s.key, a.head_dim, warp * kWarpKeys, step, fresh, lane);
    keys.multiply(sums, s.queries, a.head_dim, step, lane);
  }
  const float scale = 1.0f / sqrtf(static_cast<float>(a.head_dim));
  HEARTMULA_UNROLL
  for (int i = 0; i < 4 * kTiles; ++i) {
    const int key = warp * kWarpKeys + i / 4 * 16 + i % 4 / 2 * 8 + lane / 4;
    const int h = lane % 4 * 2 + i % 2;
    s.scores[h * kMatrixChunk + key] = key < count ? sums[i / 4][i % 4] * scale : -INFINITY;
  }
  wait_copies<0>();
  sync_block();
  HEARTMULA_UNROLL
  for (int h = 0; h < kMostHeads; h += kWarps) weigh(a, s, totals, h + warp, lane);
  sync_block();
  sum_values(a, s, warp, lane);
  sync_block();
  finish_chunk<kBlockThreads, 4>(a, row_index, block, chunk, chunks, totals, last_block, thread, [&](int i) {
    float sum = s.parts[i];
    for (int part = 1; part < kWarps; ++part) sum += s.parts[part * a.shared * a.head_dim + i];
    return sum;
  });
}

}  // namespace

bool attend_by_matrices(cudaStream_t stream, Attention a, int heads, int64_t rows, int most_shared) {
  a.shared = heads / a.kv_heads;
  a.blocks = a.kv_heads;
  a.chunks = static_cast<int>((a.capacity + kMatrixChunk - 1) / kMatrixChunk);
  if (!a.bf16 || a.head_dim % kStepDims != 0 || a.head_dim > kMostHeadDim || a.shared > kMostHeads) return false;
  const int shared = shared_bytes(a.head_dim, a.shared, a.capacity);
  if (shared > most_shared) return false;
  const dim3 blocks(static_cast<unsigned>(rows), static_cast<unsigned>(a.blocks), static_cast<unsigned>(a.chunks));
  launch(stream, {blocks, dim3(kBlockThreads), static_cast<size_t>(shared)},
         rows > kFewRows ? matrix_kernel<3> : matrix_kernel<2>, a);
  return true;
}

}  // namespace heartmula::cuda

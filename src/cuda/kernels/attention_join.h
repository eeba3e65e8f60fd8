// What follows a chunk of causal attention: its share is kept, and the last block of a row and its heads joins them.
#pragma once

#include "cuda/kernels/attention_chunk.h"

namespace heartmula::cuda {

constexpr int kMatrixChunk = 128;  // positions of a block of attend_by_matrices
constexpr int kMostPad = 3;        // floats behind a chunk's share, of each query head at most
static_assert(kMatrixChunk <= kChunk && kBlock % kMatrixChunk == 0);

/// Floats of a chunk's share in the workspace: for each query head its weighted values; then the greatest score of each
/// and the sum of weights of each; a multiple of 16 bytes.
__device__ inline int share_floats(const Attention& a) {
  return (a.shared * (a.head_dim + 2) + 3) / 4 * 4;
}
__device__ inline float* chunk_memory(const Attention& a, int row, int block, int chunk) {
  return a.workspace + ((static_cast<int64_t>(row) * a.blocks + block) * a.chunks + chunk) * share_floats(a);
}

template <int kTogether>
__device__ inline void load_part(float (&to)[kTogether], const float* from) {
  if constexpr (kTogether == 4) {
    const float4 four = load_fresh(reinterpret_cast<const float4*>(from));
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
  } else {
    to[0] = load_fresh(from);
  }
}

// Joins the chunks of a row and its heads in ascending order; a thread has kTogether outputs of one head at once. The
// time is all waiting, so a thread asks for many chunks before it uses the first.
template <int kBlockThreads, int kTogether>
__device__ inline void join_chunks(const Attention& a, int row, int block, int chunks, int thread) {
  constexpr int kScoresAtOnce = 32;
  constexpr int kChunksAtOnce = 12;
  const int64_t stride = share_floats(a);
  const float* memory = chunk_memory(a, row, block, 0);
  const int values = a.shared * a.head_dim;
  HEARTMULA_KEEP_LOOP
  for (int i = thread * kTogether; i < values; i += kBlockThreads * kTogether) {
    const float* greatest_scores = memory + values + i / a.head_dim;
    float greatest = -INFINITY;
    HEARTMULA_KEEP_LOOP
    for (int first = 0; first < chunks; first += kScoresAtOnce) {
      float scores[kScoresAtOnce];
      HEARTMULA_UNROLL
      for (int c = 0; c < kScoresAtOnce; ++c) {
        scores[c] = first + c < chunks ? load_fresh(greatest_scores + (first + c) * stride) : -INFINITY;
      }
      HEARTMULA_UNROLL
      for (int c = 0; c < kScoresAtOnce; ++c) greatest = fmaxf(greatest, scores[c]);
    }
    float weight = 0.0f;
    float sums[kTogether] = {};
    HEARTMULA_KEEP_LOOP
    for (int first = 0; first < chunks; first += kChunksAtOnce) {
      float scores[kChunksAtOnce];
      float weights[kChunksAtOnce];
      float parts[kChunksAtOnce][kTogether];
      HEARTMULA_UNROLL
      for (int c = 0; c < kChunksAtOnce; ++c) {
        const int chunk = first + c < chunks ? first + c : first;
        scores[c] = load_fresh(greatest_scores + chunk * stride);
        weights[c] = load_fresh(greatest_scores + a.shared + chunk * stride);
        load_part(parts[c], memory + chunk * stride + i);
      }
      HEARTMULA_UNROLL
      for (int c = 0; c < kChunksAtOnce; ++c) {
        if (first + c >= chunks) break;
        const float factor = expf(scores[c] - greatest);
        weight = fmaf(factor, weights[c], weight);
        HEARTMULA_UNROLL
        for (int e = 0; e < kTogether; ++e) sums[e] = fmaf(factor, parts[c][e], sums[e]);
      }
    }
    HEARTMULA_UNROLL
    for (int e = 0; e < kTogether; ++e)
      a.out.store(row, static_cast<int64_t>(block) * values + i + e, sums[e] / weight);
  }
}

/// sum_of(i): weighted value i of the chunk, [shared * head_dim], to be called after a sync_block; `totals` are
/// greatest scores and sums of weights, [2 shared]; `last_block` is shared memory. head_dim is a multiple of kTogether.
template <int kBlockThreads, int kTogether, typename SumOf>
__device__ inline void finish_chunk(const Attention& a, int row, int block, int chunk, int chunks, const float* totals,
                                    bool& last_block, int thread, SumOf sum_of) {
  const int values = a.shared * a.head_dim;
  if (chunks == 1) {
    HEARTMULA_KEEP_LOOP
    for (int i = thread; i < values; i += kBlockThreads) {
      a.out.store(row, static_cast<int64_t>(block) * values + i, sum_of(i) / totals[a.shared + i / a.head_dim]);
    }
    return;
  }
  float* memory = chunk_memory(a, row, block, chunk);
  if (thread < 2 * a.shared) memory[values + thread] = totals[thread];
  HEARTMULA_KEEP_LOOP
  for (int i = thread; i < values; i += kBlockThreads) memory[i] = sum_of(i);
  fence_device();
  sync_block();
  if (thread == 0) {
    int32_t* counter = a.counters + row * a.blocks + block;
    last_block = add_and_get(counter, 1) == chunks - 1;
    if (last_block) *counter = 0;  // for the next launch
  }
  sync_block();
  if (last_block) {
    fence_device();
    join_chunks<kBlockThreads, kTogether>(a, row, block, chunks, thread);
  }
}

/// The same attention by mma.sync where it can: bf16, heads of whole steps of 32, at most eight query heads a key head,
/// and no more shared memory a block than `most_shared` bytes.
bool attend_by_matrices(cudaStream_t stream, Attention a, int heads, int64_t rows, int most_shared);

}  // namespace heartmula::cuda

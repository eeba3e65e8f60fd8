// What follows a chunk of causal attention: its share is kept, and the last block of a row and its heads joins them.
#pragma once

#include "cuda/kernels/attention_chunk.h"

namespace heartmula::cuda {

// Joins the chunks of a row and its heads in ascending order.
__device__ inline void join_chunks(const Attention& a, int row, int block, int chunks, int thread) {
  const int64_t stride = a.shared * (a.head_dim + 2);
  HEARTMULA_KEEP_LOOP
  for (int i = thread; i < a.shared * a.head_dim; i += kThreads) {
    const float* memory = chunk_memory(a, row, block, 0);
    const int h = i / a.head_dim;
    float greatest = -INFINITY;
    HEARTMULA_KEEP_LOOP
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
    HEARTMULA_KEEP_LOOP
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

/// sum_of(i): weighted value i of the chunk, [shared * head_dim], to be called after a sync_block; `totals` are
/// greatest scores and sums of weights, [2 shared]; `last_block` is shared memory.
template <typename SumOf>
__device__ inline void finish_chunk(const Attention& a, int row, int block, int chunk, int chunks, const float* totals,
                                    bool& last_block, int thread, SumOf sum_of) {
  const int values = a.shared * a.head_dim;
  if (chunks == 1) {
    HEARTMULA_KEEP_LOOP
    for (int i = thread; i < values; i += kThreads) {
      a.out.store(row, static_cast<int64_t>(block) * values + i, sum_of(i) / totals[a.shared + i / a.head_dim]);
    }
    return;
  }
  float* memory = chunk_memory(a, row, block, chunk);
  if (thread < 2 * a.shared) memory[thread] = totals[thread];
  HEARTMULA_KEEP_LOOP
  for (int i = thread; i < values; i += kThreads) memory[2 * a.shared + i] = sum_of(i);
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
    join_chunks(a, row, block, chunks, thread);
  }
}

/// The same attention by mma.sync where it can: bf16, heads of whole steps of 32, at most eight query heads a key head,
/// and no more shared memory a block than `most_shared` bytes.
bool attend_by_matrices(cudaStream_t stream, Attention a, int heads, int64_t rows, int most_shared);

}  // namespace heartmula::cuda

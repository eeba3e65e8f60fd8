// Causal attention over a cache of keys and values (Ops::append_kv, attend).
#pragma once

#include <cuda_runtime.h>

#include "ops/ops.h"

namespace heartmula::cuda {

/// Keys and values of one layer: [streams][kv_heads][capacity][head_dim] each, in the cache's dtype. With a table,
/// [shape.blocks][kv_heads][kKvBlock][head_dim], and `places` [streams][blocks_of_stream] in device memory.
struct CacheView {
  void* keys = nullptr;
  void* values = nullptr;
  const int32_t* places = nullptr;
  int64_t blocks_of_stream = 0;
  KvShape shape;
};

struct AttentionRows {
  const Row* rows = nullptr;  // in device memory
  int64_t count = 0;
  int64_t most_repeats = 1;
};

void append_kv(cudaStream_t stream, const CacheView& cache, ConstView keys, ConstView values, const Rope& rope,
               const AttentionRows& rows);

/// `keys` and `values` may be empty, or those of the rows, each of a stream of its own: then they are appended first.
/// `workspace` [attention_workspace_floats] and `counters` [rows * heads], zero before the first call.
/// `most_shared`: bytes of shared memory that a block may have.
void attend(cudaStream_t stream, View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
            const CacheView& cache, const AttentionRows& rows, float* workspace, int32_t* counters, int most_shared);
int64_t attention_workspace_floats(const KvShape& shape, int64_t rows, int64_t heads);

}  // namespace heartmula::cuda

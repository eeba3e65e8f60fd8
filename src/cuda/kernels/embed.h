// Rows of tables, summed (Ops::embed_sum, embed_codes), and what programs count by.
#pragma once

#include <cuda_runtime.h>

#include "ops/ops.h"

namespace heartmula::cuda {

/// `table` in device memory; ids [rows, per_row], I32: out[r] = sum of table[first + i * step + ids[r, i]], an id of -1
/// contributes nothing.
void embed(cudaStream_t stream, View out, ConstView table, DType round_to, ConstView ids, int64_t first, int64_t step);
/// position += 1 in each of `count` rows.
void advance(cudaStream_t stream, Row* rows, int64_t count);
/// mailbox[number mod rows] = values, after which its flag is number + 1.
void post(cudaStream_t stream, View mailbox, int32_t* flags, ConstView values, ConstView number);
void increment(cudaStream_t stream, View counters);

}  // namespace heartmula::cuda

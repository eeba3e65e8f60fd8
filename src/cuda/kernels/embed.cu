#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/kernels/embed.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;

struct Ids {
  const int32_t* data;
  int64_t stride;
  int32_t per_row;
  int64_t first;
  int64_t step;
};

// A thread an element of a row; entries are added in ascending order.
__global__ void __launch_bounds__(kThreads) embed_kernel(Out out, In table, bool round, Ids ids, int64_t columns) {
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.y;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= columns) return;
  float sum = 0.0f;
  for (int32_t i = 0; i < ids.per_row; ++i) {
    const int32_t id = ids.data[row * ids.stride + i];
    if (id < 0) continue;
    float value = table.load(ids.first + i * ids.step + id, column);
    if (round) value = from_bf16(to_bf16(value));
    sum += value;
  }
  out.store(row, column, sum);
}

__global__ void advance_kernel(Row* rows, int64_t count) {
  start_next();
  wait_for_previous();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row < count) ++rows[row].position;
}

struct Posted {
  const int32_t* data;
  int64_t stride;
  int64_t cols;
  int64_t count;
};

__global__ void post_kernel(int32_t* mailbox, int64_t stride, int64_t rows, int32_t* flags, Posted values,
                            const int32_t* number) {
  start_next();
  wait_for_previous();
  const int64_t row = *number % rows;
  for (int64_t i = threadIdx.x; i < values.count; i += kThreads) {
    mailbox[row * stride + i] = values.data[i / values.cols * values.stride + i % values.cols];
  }
  fence_system();
  sync_block();
  if (threadIdx.x == 0) store_for_host(&flags[row], *number + 1);
}

__global__ void increment_kernel(int32_t* counters, int64_t stride, int64_t rows) {
  start_next();
  wait_for_previous();
  for (int64_t row = threadIdx.x; row < rows; row += kThreads) ++counters[row * stride];
}

}  // namespace

void embed(cudaStream_t stream, View out, ConstView table, DType round_to, ConstView ids, int64_t first, int64_t step) {
  const Ids places{static_cast<const int32_t*>(ids.data), ids.stride, static_cast<int32_t>(ids.cols), first, step};
  const dim3 blocks(static_cast<unsigned>((out.cols + kThreads - 1) / kThreads), static_cast<unsigned>(out.rows));
  launch(stream, {blocks, dim3(kThreads)}, embed_kernel, Out(out), In(table), round_to == DType::kBF16, places,
         out.cols);
}

void advance(cudaStream_t stream, Row* rows, int64_t count) {
  const dim3 blocks(static_cast<unsigned>((count + kThreads - 1) / kThreads));
  launch(stream, {blocks, dim3(kThreads)}, advance_kernel, rows, count);
}

void post(cudaStream_t stream, View mailbox, int32_t* flags, ConstView values, ConstView number) {
  const Posted posted{static_cast<const int32_t*>(values.data), values.stride, values.cols, values.rows * values.cols};
  launch(stream, {dim3(1), dim3(kThreads)}, post_kernel, static_cast<int32_t*>(mailbox.data), mailbox.stride,
         mailbox.rows, flags, posted, static_cast<const int32_t*>(number.data));
}

void increment(cudaStream_t stream, View counters) {
  launch(stream, {dim3(1), dim3(kThreads)}, increment_kernel, static_cast<int32_t*>(counters.data), counters.stride,
         counters.rows);
}

}  // namespace heartmula::cuda

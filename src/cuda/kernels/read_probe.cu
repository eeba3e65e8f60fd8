// Eight independent reads of 16 bytes a thread at a time.
#include "cuda/kernels/device.h"
#include "cuda/kernels/read_probe.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kBlocksEach = 4;
constexpr int kReads = 8;

__global__ void __launch_bounds__(kThreads) read_kernel(const uint4* data, int64_t words, uint32_t* result) {
  start_next();
  wait_for_previous();
  const int64_t threads = static_cast<int64_t>(gridDim.x) * kThreads;
  uint32_t sum = 0;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  for (; i + (kReads - 1) * threads < words; i += kReads * threads) {
    uint4 values[kReads];
    HEARTMULA_UNROLL
    for (int j = 0; j < kReads; ++j) values[j] = load_streaming(data + i + j * threads);
    HEARTMULA_UNROLL
    for (int j = 0; j < kReads; ++j) sum += values[j].x ^ values[j].y ^ values[j].z ^ values[j].w;
  }
  for (; i < words; i += threads) sum += data[i].x;
  if (sum == 0x12345678U) *result = sum;
}

}  // namespace

void read_all(cudaStream_t stream, const void* data, int64_t bytes, uint32_t* result, int multiprocessors) {
  launch(stream, {dim3(static_cast<unsigned>(kBlocksEach * multiprocessors)), dim3(kThreads)}, read_kernel,
         static_cast<const uint4*>(data), bytes / 16, result);
}

}  // namespace heartmula::cuda

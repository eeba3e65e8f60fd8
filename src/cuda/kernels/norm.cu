// A block a row: its sum of squares has the order that products with a norm in front have, so both give the same bits.
#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/row_sums.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kWarps = kRowThreads / kWarp;

/// The sum of all threads' shares, the same in each. `sums` [kWarps] must not be in use.
__device__ inline float sum_of_shares(float share, float* sums) {
  const float sum = warp_sum(share);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
  sync_block();
  return sum_of_warps(sums);
}

struct NormRow {
  In x;
  Out out;
  const float* gain;
  const float* scale;
  const float* shift;
  float eps;
  int columns;
};

__global__ void __launch_bounds__(kRowThreads) rms_norm_kernel(NormRow p) {
  __shared__ float sums[kWarps];
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const float* x = static_cast<const float*>(p.x.data) + row * p.x.stride;
  const float sum = sum_of_shares(share_of_row(x, p.columns, thread, Square{}), sums);
  const float factor = 1.0f / sqrtf(sum / static_cast<float>(p.columns) + p.eps);
  for (int i = thread; i < p.columns; i += kRowThreads) {
    float value = x[i] * factor * p.gain[i];
    if (p.scale != nullptr) value = value * (1.0f + p.scale[i]) + p.shift[i];
    p.out.store(row, i, value);
  }
}

__global__ void __launch_bounds__(kRowThreads) layer_norm_kernel(NormRow p) {
  __shared__ float sums[2][kWarps];
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const float* x = static_cast<const float*>(p.x.data) + row * p.x.stride;
  const auto columns = static_cast<float>(p.columns);
  const float mean = sum_of_shares(share_of_row(x, p.columns, thread, [](float v) { return v; }), sums[0]) / columns;
  const auto square = [mean](float v) { return (v - mean) * (v - mean); };
  const float variance = sum_of_shares(share_of_row(x, p.columns, thread, square), sums[1]) / columns;
  const float factor = 1.0f / sqrtf(variance + p.eps);
  for (int i = thread; i < p.columns; i += kRowThreads) {
    p.out.store(row, i, (x[i] - mean) * factor * (1.0f + p.scale[i]) + p.shift[i]);
  }
}

void launch_norm(cudaStream_t stream, void (*kernel)(NormRow), View out, ConstView x, ConstView gain, ConstView scale,
                 ConstView shift, float eps) {
  const auto floats = [](ConstView v) { return static_cast<const float*>(v.data); };
  launch(stream, {dim3(static_cast<unsigned>(out.rows)), dim3(kRowThreads)}, kernel,
         NormRow{x, out, floats(gain), floats(scale), floats(shift), eps, static_cast<int>(out.cols)});
}

}  // namespace

void rms_norm(cudaStream_t stream, View out, ConstView x, ConstView gain, ConstView scale, ConstView shift, float eps) {
  launch_norm(stream, rms_norm_kernel, out, x, gain, scale, shift, eps);
}

void layer_norm(cudaStream_t stream, View out, ConstView x, ConstView scale, ConstView shift, float eps) {
  launch_norm(stream, layer_norm_kernel, out, x, {}, scale, shift, eps);
}

}  // namespace heartmula::cuda

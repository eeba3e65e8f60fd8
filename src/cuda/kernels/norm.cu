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
  bool fours;  // four of gain, scale, shift and out stand at aligned addresses
};

/// out = (x - mean) * factor * gain * (1 + scale) + shift of `kCount` columns; there may be no gain, or no scale and
/// shift.
template <int kCount>
__device__ inline void finish_columns(const NormRow& p, int64_t row, int first, const float* x, float mean,
                                      float factor) {
  float values[kCount];
  load_floats(values, x + first);
  HEARTMULA_UNROLL
  for (float& value : values) value = (value - mean) * factor;
  if (p.gain != nullptr) {
    float gain[kCount];
    load_floats(gain, p.gain + first);
    HEARTMULA_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] *= gain[i];
  }
  if (p.scale != nullptr) {
    float scale[kCount];
    float shift[kCount];
    load_floats(scale, p.scale + first);
    load_floats(shift, p.shift + first);
    HEARTMULA_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] = fmaf(values[i], 1.0f + scale[i], shift[i]);
  }
  p.out.store(row, first, values);
}

__device__ inline void finish_row(const NormRow& p, int64_t row, const float* x, float mean, float factor) {
  const int thread = static_cast<int>(threadIdx.x);
  if (p.fours && in_fours(x, p.columns)) {
    for (int i = 4 * thread; i < p.columns; i += 4 * kRowThreads) finish_columns<4>(p, row, i, x, mean, factor);
  } else {
    for (int i = thread; i < p.columns; i += kRowThreads) finish_columns<1>(p, row, i, x, mean, factor);
  }
}

__global__ void __launch_bounds__(kRowThreads) rms_norm_kernel(NormRow p) {
  __shared__ float sums[kWarps];
  start_next();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const float* x = static_cast<const float*>(p.x.data) + row * p.x.stride;
  const float sum = sum_of_shares(share_of_row(x, p.columns, thread, Square{}), sums);
  const float factor = 1.0f / sqrtf(sum / static_cast<float>(p.columns) + p.eps);
  finish_row(p, row, x, 0.0f, factor);
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
  finish_row(p, row, x, mean, factor);
}

void launch_norm(cudaStream_t stream, void (*kernel)(NormRow), View out, ConstView x, ConstView gain, ConstView scale,
                 ConstView shift, float eps) {
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const bool fours =
      aligned(gain.data) && aligned(scale.data) && aligned(shift.data) && aligned(out.data) && out.stride % 4 == 0;
  launch(stream, {dim3(static_cast<unsigned>(out.rows)), dim3(kRowThreads)}, kernel,
         NormRow{x, out, floats_of(gain), floats_of(scale), floats_of(shift), eps, static_cast<int>(out.cols), fours});
}

}  // namespace

void rms_norm(cudaStream_t stream, View out, ConstView x, ConstView gain, ConstView scale, ConstView shift, float eps) {
  launch_norm(stream, rms_norm_kernel, out, x, gain, scale, shift, eps);
}

void layer_norm(cudaStream_t stream, View out, ConstView x, ConstView scale, ConstView shift, float eps) {
  launch_norm(stream, layer_norm_kernel, out, x, {}, scale, shift, eps);
}

}  // namespace heartmula::cuda

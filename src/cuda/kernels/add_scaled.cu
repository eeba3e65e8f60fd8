// out += gain * x, four columns a thread; a row of blocks for each row.
#include "cuda/kernels/add_scaled.h"
#include "cuda/kernels/device.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 4;

struct Rows {
  float* out = nullptr;
  int64_t out_stride = 0;
  const float* x = nullptr;
  int64_t x_stride = 0;
  const float* gain = nullptr;
  int32_t columns = 0;
};

__global__ void __launch_bounds__(kThreads) add(const Rows rows) {
  start_next();
  wait_for_previous();
  const int column = static_cast<int>(blockIdx.y * kThreads + threadIdx.x) * kColumns;
  float* out = rows.out + blockIdx.x * rows.out_stride + column;
  const float* x = rows.x + blockIdx.x * rows.x_stride + column;
  const auto sum = [&](float old, float value, int i) {
    return __fadd_rn(old, rows.gain == nullptr ? value : __fmul_rn(value, rows.gain[column + i]));
  };
  if (column + kColumns <= rows.columns) {
    const float4 a = *reinterpret_cast<const float4*>(out);
    const float4 b = *reinterpret_cast<const float4*>(x);
    *reinterpret_cast<float4*>(out) = {sum(a.x, b.x, 0), sum(a.y, b.y, 1), sum(a.z, b.z, 2), sum(a.w, b.w, 3)};
  } else {
    for (int i = 0; column + i < rows.columns; ++i) out[i] = sum(out[i], x[i], i);
  }
}

}  // namespace

void add_scaled(cudaStream_t stream, View out, ConstView x, const float* gain) {
  const int64_t groups = (out.cols + kThreads * kColumns - 1) / (kThreads * kColumns);
  launch(stream,
         {.blocks = dim3(static_cast<unsigned>(out.rows), static_cast<unsigned>(groups)), .threads = dim3(kThreads)},
         add,
         Rows{static_cast<float*>(out.data), out.stride, static_cast<const float*>(x.data), x.stride, gain,
              static_cast<int32_t>(out.cols)});
}

}  // namespace heartmula::cuda

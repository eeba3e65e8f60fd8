#include "cuda/kernels/gemm.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "cuda/kernels/gemm_product.h"
#include "cuda/runtime.h"

namespace heartmula::cuda {
namespace {

constexpr int64_t kAlignment = 16;

bool is_aligned(const void* data, int64_t stride, DType dtype) {
  return reinterpret_cast<uintptr_t>(data) % kAlignment == 0 &&
         stride * static_cast<int64_t>(dtype_size(dtype)) % kAlignment == 0;
}

bool is_aligned(const View& view) {
  return view.data == nullptr || is_aligned(view.data, view.stride, view.dtype);
}

GemmTarget target_of(const View& view) {
  return {view.data, view.stride, view.dtype == DType::kBF16};
}

int32_t to_int32(int64_t value) {
  if (value > std::numeric_limits<int32_t>::max())
    throw failure("A product of {} rows or columns is too large.", value);
  return static_cast<int32_t>(value);
}

GemmProduct product_of(const View& out, const GemmInput& input, const GemmWeight& weight,
                       const GemmEpilogue& epilogue) {
  const int64_t vector = kAlignment / static_cast<int64_t>(dtype_size(weight.dtype));
  GemmProduct product = {
      .x = input.x.data,
      .x_stride = input.x.stride,
      .tap_step = input.dilation * input.x.stride,
      .rows = to_int32(out.rows),
      .channels = to_int32(weight.k / input.taps),
      .k = to_int32(weight.k),
      .w = weight.data,
      .w_stride = weight.stride,
      .n = to_int32(weight.n),
      .out = target_of(out),
      .copy = target_of(epilogue.copy),
      .bias = epilogue.bias,
      .gain = epilogue.gain,
      .prelu = epilogue.has_prelu ? epilogue.prelu : 1.0F,
      .add = epilogue.add,
      .gate = epilogue.gate,
  };
  product.aligned_input = product.channels % vector == 0 && is_aligned(input.x.data, input.x.stride, weight.dtype);
  product.aligned_output = is_aligned(out) && is_aligned(epilogue.copy) && !(epilogue.add && product.out.bf16);
  // The side that is read once for each block of the other one stays in the second cache.
  product.rows_first = product.rows <= product.n;
  return product;
}

void run(cudaStream_t stream, const GemmProduct& product, DType weights, const GpuLimits& gpu) {
  if (product.rows == 0 || product.n == 0) return;
  weights == DType::kBF16 ? gemm_bf16(stream, product, gpu) : gemm_f32(stream, product, gpu);
}

}  // namespace

GpuLimits gpu_limits() {
  int device = 0;
  GpuLimits limits;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&limits.multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "asking a device for its size");
  check(cudaDeviceGetAttribute(&limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking a device for its size");
  return limits;
}

int64_t gemm_blocks(const GemmProduct& product, int tile_rows, int tile_columns) {
  return int64_t{(product.rows + tile_rows - 1) / tile_rows} * ((product.n + tile_columns - 1) / tile_columns);
}

double gemm_time(const GemmProduct& product, const GemmTileCost& tile, const GpuLimits& gpu) {
  // A block alone on a multiprocessor that has room for more leaves units idle.
  constexpr double kAlone = 0.65;
  const int64_t blocks = gemm_blocks(product, tile.rows, tile.columns);
  const int per_sm = std::min(tile.blocks_per_sm, gpu.shared_bytes / tile.shared_bytes);
  if (per_sm == 0) return std::numeric_limits<double>::infinity();
  const int64_t at_once = int64_t{gpu.multiprocessors} * per_sm;
  const double one = static_cast<double>(tile.rows) * tile.columns / tile.rate;
  const int64_t rest = blocks % at_once;
  const int64_t rest_per_sm = (rest + gpu.multiprocessors - 1) / gpu.multiprocessors;
  const int64_t full_rounds = blocks / at_once;
  double waves = static_cast<double>(full_rounds * per_sm);
  if (rest_per_sm > 0) waves += std::max(static_cast<double>(rest_per_sm), kAlone * per_sm);
  return waves * one;
}

void gemm(cudaStream_t stream, View out, const GemmInput& input, const GemmWeight& weight, const GemmEpilogue& epilogue,
          const GpuLimits& gpu) {
  run(stream, product_of(out, input, weight, epilogue), weight.dtype, gpu);
}

void residual_unit_gemm(cudaStream_t stream, View out, View copy, const GemmResidualUnit& unit, View between,
                        const GpuLimits& gpu) {
  const DType dtype = unit.first.dtype;
  const GemmProduct first =
      product_of(between, unit.input, unit.first, {.bias = unit.bias1, .has_prelu = true, .prelu = unit.slope1});
  const GemmProduct second =
      product_of(out, {.x = between}, unit.second,
                 {.bias = unit.bias2, .has_prelu = true, .prelu = unit.slope2, .add = true, .copy = copy});
  if (dtype == DType::kBF16 && residual_unit_bf16(stream, first, second, gpu)) return;
  run(stream, first, dtype, gpu);
  run(stream, second, dtype, gpu);
}

}  // namespace heartmula::cuda

// f32 weights by FMA, for `verify` and whoever asks for it: a block takes a unit of 32 outputs, one in each lane, its
// eight warps one slice of the inputs each. Rows stand in shared memory and reach all lanes at once.
#include "cuda/kernels/device.h"
#include "cuda/kernels/few_epilogue.h"
#include "cuda/kernels/few_product.h"
#include "cuda/kernels/row_sums.h"
#include "cuda/launch.h"

namespace heartmula::cuda {

void few_product_bf16(cudaStream_t stream, const FewProduct& p, const FewResources& resources);

namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kUnit = 32;

// rows [first, first + kRows) of x, normed where asked, to shared memory [kRows][padded]; zeros where there is nothing.
template <int kRows>
__device__ void load_rows(const FewProduct& p, float* shared_x, float* sums, int first, int thread) {
  const int padded = kWarps * p.slice;
  const auto* x = static_cast<const float*>(p.x) + first * p.x_stride;
  if (p.norm_gain != nullptr) {
    for (int row = 0; row < kRows; ++row) {
      const int columns = first + row < p.rows ? p.k : 0;
      const float share = warp_sum(share_of_row(x + row * p.x_stride, columns, thread, Square{}));
      if (thread % kWarp == 0) sums[row * kWarps + thread / kWarp] = share;
    }
    sync_block();
  }
  for (int row = 0; row < kRows; ++row) {
    const float factor = p.norm_gain == nullptr
                             ? 1.0f
                             : 1.0f / sqrtf(sum_of_warps(sums + row * kWarps) / static_cast<float>(p.k) + p.norm_eps);
    for (int i = thread; i < padded; i += kThreads) {
      float value = first + row < p.rows && i < p.k ? x[row * p.x_stride + i] : 0.0f;
      if (p.norm_gain != nullptr && i < p.k) value = value * factor * p.norm_gain[i];
      shared_x[row * padded + i] = value;
    }
  }
}

template <int kRows>
__global__ void __launch_bounds__(kThreads) few_f32_kernel(FewProduct p) {
  auto* shared_x = reinterpret_cast<float*>(dynamic_shared());
  const int padded = kWarps * p.slice;
  float* parts = shared_x + kRows * padded;      // [slices][kRows][kUnit]
  float* sums = parts + kWarps * kRows * kUnit;  // [kRows][kWarps]
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
  const int unit = static_cast<int>(blockIdx.x);
  const int first = static_cast<int>(blockIdx.y) * kRows;
  start_next();
  wait_for_previous();
  load_rows<kRows>(p, shared_x, sums, first, thread);
  sync_block();

  const auto* weights = static_cast<const float4*>(p.weights) +
                        (static_cast<int64_t>(unit) * kWarps + warp) * (p.slice / 4) * kUnit + lane;
  const float* x = shared_x + warp * p.slice;
  float acc[kRows] = {};
  for (int i = 0; i < p.slice / 4; ++i) {
    const float4 w = weights[i * kUnit];
    HEARTMULA_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const float* values = x + row * padded + 4 * i;
      acc[row] = fmaf(values[0], w.x, acc[row]);
      acc[row] = fmaf(values[1], w.y, acc[row]);
      acc[row] = fmaf(values[2], w.z, acc[row]);
      acc[row] = fmaf(values[3], w.w, acc[row]);
    }
  }
  HEARTMULA_UNROLL
  for (int row = 0; row < kRows; ++row) parts[(warp * kRows + row) * kUnit + lane] = acc[row];
  sync_block();
  // Items count rows from the first of `p`.
  FewProduct block = p;
  block.rows = p.rows - first < kRows ? p.rows - first : kRows;
  block.out = p.out_bf16 ? static_cast<void*>(static_cast<uint16_t*>(p.out) + first * p.out_stride)
                         : static_cast<void*>(static_cast<float*>(p.out) + first * p.out_stride);
  const FewItem<kUnit> item(block, unit, thread);
  if (!item.valid) return;
  finish_item(block, item, value_before(block, item.row, item.column),
              [&](int slice, int row, int output) { return parts[(slice * kRows + row) * kUnit + output]; });
}

template <int kRows>
size_t shared_bytes(const FewProduct& p) {
  return static_cast<size_t>(kRows * kWarps * p.slice + kWarps * kRows * kUnit + kRows * kWarps) * sizeof(float);
}

template <int kRows>
void launch_f32(cudaStream_t stream, const FewProduct& p) {
  const dim3 blocks(static_cast<unsigned>(p.units), static_cast<unsigned>((p.rows + kRows - 1) / kRows));
  launch(stream, {blocks, dim3(kThreads), shared_bytes<kRows>(p)}, few_f32_kernel<kRows>, p);
}

}  // namespace

void few_product(cudaStream_t stream, const FewProduct& p, const FewResources& resources) {
  if (p.dtype == DType::kBF16) {
    few_product_bf16(stream, p, resources);
  } else if (p.rows > 2 && static_cast<int>(shared_bytes<4>(p)) <= resources.shared_bytes) {
    launch_f32<4>(stream, p);
  } else {
    launch_f32<2>(stream, p);
  }
}

}  // namespace heartmula::cuda

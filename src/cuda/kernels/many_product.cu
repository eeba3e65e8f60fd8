// bf16 weights, more rows: a prompt, or many songs. A block multiplies one slice of the inputs for 128 outputs and 64
// rows; here the weights, out of the same packed copy, are the first operand of mma.m16n8k16 and go straight into
// registers, and the slice of the rows stands in shared memory. Partial sums go to a workspace, and a second kernel
// adds them in the order of few_product.h.
#include <algorithm>

#include "cuda/kernels/device.h"
#include "cuda/kernels/few_epilogue.h"
#include "cuda/kernels/few_product.h"
#include "cuda/launch.h"
#include "cuda/packed.h"

namespace heartmula::cuda {
namespace {

constexpr int kSliceCount = 8;
constexpr int kUnit = 8;
constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kTiles = 2;                         // of 16 outputs, a warp
constexpr int kBlockUnits = kWarps * kTiles * 2;  // 128 outputs
constexpr int kPad = 32;
constexpr int kMostRows = 64;
constexpr int kFinishThreads = 256;

template <int kRowTiles>  // of 8 rows
__global__ void __launch_bounds__(kThreads) many_kernel(FewProduct p, float* workspace) {
  auto* x = reinterpret_cast<uint16_t*>(dynamic_shared());  // [8 kRowTiles][pitch]
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
  const int slice = static_cast<int>(blockIdx.y);
  const int pitch = p.slice + kPad;
  start_next();
  wait_for_previous();
  const auto* from = static_cast<const uint16_t*>(p.x);
  const bool wide = p.k % 8 == 0 && p.x_stride % 8 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0;
  for (int item = thread; item < kRowTiles * 8 * (p.slice / 8); item += kThreads) {
    const int row = item / (p.slice / 8);
    const int in_slice = item % (p.slice / 8) * 8;
    const int input = slice * p.slice + in_slice;
    uint4 values = {0, 0, 0, 0};
    if (row < p.rows && input < p.k) {
      const uint16_t* source = from + row * p.x_stride + input;
      if (wide) {
        values = *reinterpret_cast<const uint4*>(source);
      } else {
        uint32_t words[4] = {};
        for (int j = 0; j < 8 && input + j < p.k; ++j) {
          words[j / 2] |= static_cast<uint32_t>(source[j]) << (16 * (j % 2));
        }
        values = {words[0], words[1], words[2], words[3]};
      }
    }
    *reinterpret_cast<uint4*>(x + row * pitch + in_slice) = values;
  }
  sync_block();

  const int first_unit = static_cast<int>(blockIdx.x) * kBlockUnits + warp * kTiles * 2;
  float sums[kTiles][kRowTiles][4] = {};
  const int group = lane / 4;
  const uint16_t* lane_x = x + group * pitch + lane % 4 * 8;
  const auto weights_at = [&](int unit, int step) -> const uint4* {
    const int stage = step / 4;
    const int left = p.slice - stage * static_cast<int>(kStage);
    const int steps = (left < kStage ? left : static_cast<int>(kStage)) / static_cast<int>(kStep);
    return static_cast<const uint4*>(p.weights) + static_cast<int64_t>(unit) * kSliceCount * p.slice +
           stage * static_cast<int>(kStage) * kSliceCount + (slice * steps + step % 4) * kWarp + lane;
  };
  const int steps = p.slice / static_cast<int>(kStep);
  uint4 next[kTiles][2];
  const auto load = [&](int step) {
    HEARTMULA_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      HEARTMULA_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int unit = first_unit + 2 * tile + half;
        if (unit < p.units) next[tile][half] = load_streaming(weights_at(unit, step));
      }
    }
  };
  const uint4 zero = {0, 0, 0, 0};
  for (int tile = 0; tile < kTiles; ++tile) next[tile][0] = next[tile][1] = zero;
  load(0);
  for (int step = 0; step < steps; ++step) {
    uint4 w[kTiles][2];
    HEARTMULA_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      w[tile][0] = next[tile][0];
      w[tile][1] = next[tile][1];
    }
    if (step + 1 < steps) load(step + 1);
    HEARTMULA_UNROLL
    for (int rows = 0; rows < kRowTiles; ++rows) {
      const uint4 v = *reinterpret_cast<const uint4*>(lane_x + rows * 8 * pitch + step * static_cast<int>(kStep));
      HEARTMULA_UNROLL
      for (int tile = 0; tile < kTiles; ++tile) {
        mma_bf16(sums[tile][rows], {w[tile][0].x, w[tile][1].x, w[tile][0].y, w[tile][1].y}, {v.x, v.y});
        mma_bf16(sums[tile][rows], {w[tile][0].z, w[tile][1].z, w[tile][0].w, w[tile][1].w}, {v.z, v.w});
      }
    }
  }
  const int outputs = p.units * kUnit;
  HEARTMULA_UNROLL
  for (int tile = 0; tile < kTiles; ++tile) {
    HEARTMULA_UNROLL
    for (int rows = 0; rows < kRowTiles; ++rows) {
      HEARTMULA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = rows * 8 + lane % 4 * 2 + i % 2;
        const int output = (first_unit + 2 * tile + i / 2) * kUnit + group;
        if (row < p.rows && output < outputs) {
          workspace[(static_cast<int64_t>(slice) * kMostRows + row) * outputs + output] = sums[tile][rows][i];
        }
      }
    }
  }
}

__global__ void __launch_bounds__(kFinishThreads) finish_kernel(FewProduct p, const float* workspace) {
  start_next();
  wait_for_previous();
  const int row = static_cast<int>(blockIdx.y);
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int outputs = p.units * kUnit;
  const auto sum_of = [&](int output) {
    const float* part = workspace + static_cast<int64_t>(row) * outputs + output;
    float sum = part[0];
    for (int slice = 1; slice < kSliceCount; ++slice) sum += part[static_cast<int64_t>(slice) * kMostRows * outputs];
    return sum;
  };
  if (p.gate) {
    if (2 * index < p.n) store_few(p, row, index, silu_of(sum_of(2 * index)) * sum_of(2 * index + 1), 0.0f);
  } else if (index < p.n) {
    finish_output(p, row, index, sum_of(index), value_before(p, row, index));
  }
}

template <int kRowTiles>
void multiply(cudaStream_t stream, const FewProduct& p, float* workspace) {
  const dim3 blocks(static_cast<unsigned>((p.units + kBlockUnits - 1) / kBlockUnits), kSliceCount);
  const size_t shared = static_cast<size_t>(kRowTiles * 8 * (p.slice + kPad)) * sizeof(uint16_t);
  launch(stream, {blocks, dim3(kThreads), shared}, many_kernel<kRowTiles>, p, workspace);
}

}  // namespace

int64_t many_workspace_floats(int64_t n) {
  return kSliceCount * kMostRows * ((n + 15) / 16 * 16);
}

void many_product(cudaStream_t stream, const FewProduct& product, const FewResources& resources) {
  const bool small = (kMostRows * (product.slice + kPad)) * 2 > resources.shared_bytes;
  const int at_once = small ? kMostRows / 2 : kMostRows;
  for (int first = 0; first < product.rows; first += at_once) {
    FewProduct p = product;
    p.rows = std::min(at_once, product.rows - first);
    p.x = static_cast<const uint16_t*>(product.x) + first * product.x_stride;
    p.out = p.out_bf16 ? static_cast<void*>(static_cast<uint16_t*>(product.out) + first * product.out_stride)
                       : static_cast<void*>(static_cast<float*>(product.out) + first * product.out_stride);
    if (p.rows > 32) {
      multiply<8>(stream, p, resources.workspace);
    } else if (p.rows > 16) {
      multiply<4>(stream, p, resources.workspace);
    } else {
      multiply<2>(stream, p, resources.workspace);
    }
    const int items = p.gate ? p.n / 2 : p.n;
    const dim3 blocks(static_cast<unsigned>((items + kFinishThreads - 1) / kFinishThreads),
                      static_cast<unsigned>(p.rows));
    launch(stream, {blocks, dim3(kFinishThreads)}, finish_kernel, p, resources.workspace);
  }
}

}  // namespace heartmula::cuda

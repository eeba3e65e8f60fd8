// bf16 weights, more rows: a prompt, or many songs. A block multiplies one slice of the inputs for 128 outputs and 64
// rows; here the weights, out of the same packed copy, are the first operand of mma.m16n8k16. They come by asynchronous
// copies, each thread's own, so that nobody waits for anybody while several steps are under way; rows come by stages of
// 128 inputs. Partial sums go to a workspace, and a second kernel adds them in the order of few_product.h.
#include <algorithm>

#include "cuda/kernels/device.h"
#include "cuda/kernels/elements.h"
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
constexpr int kTiles = 2;          // of 16 outputs, a warp
constexpr int kMine = kTiles * 2;  // units of a warp
constexpr int kBlockUnits = kWarps * kMine;
constexpr int kInputs = static_cast<int>(kStage);
constexpr int kSteps = static_cast<int>(kStage / kStep);
constexpr int kPitch = kInputs + 32;  // values between rows in shared memory, so that they lie in different banks
constexpr int kMostRows = 64;
constexpr int kFinishThreads = 128;
constexpr int kTogether = 4;  // outputs of a thread that finishes

// Copies are waited for in the order of their start; rows are asked for before the weights of the same step, and must
// be the older ones when they are needed.
constexpr int kAhead = 4;   // steps of weights
constexpr int kStages = 2;  // of rows, in shared memory
static_assert(kAhead <= kSteps * (kStages - 1));

constexpr int stage_values(int row_tiles) {
  return row_tiles * 8 * kPitch;
}
constexpr int shared_bytes(int row_tiles) {
  return kAhead * kMine * kThreads * 16 + kStages * stage_values(row_tiles) * 2;
}

/// Steps of a stage of a slice.
__device__ inline int steps_of(int slice, int stage) {
  const int left = slice - stage * kInputs;
  return (left < kInputs ? left : kInputs) / static_cast<int>(kStep);
}

/// Starts the copies of a stage of a slice of all rows, [kRows][kPitch]; zeros beyond the rows and the inputs.
template <int kRows, bool kWide>
__device__ inline void load_rows(const FewProduct& p, uint16_t* to, int slice, int stage, int thread) {
  constexpr int kChunks = kInputs / 8;
  constexpr int kRowsAtOnce = kThreads / kChunks;
  const int chunk = thread % kChunks * 8;
  const int in_slice = stage * kInputs + chunk;
  const int input = slice * p.slice + in_slice;
  const int inputs = in_slice < p.slice ? p.k - input : 0;  // from here on
  const auto* x = static_cast<const uint16_t*>(p.x);
  int row = thread / kChunks;
  const uint16_t* source = x + row * p.x_stride + input;
  to += row * kPitch + chunk;
  if constexpr (kWide) {
    HEARTMULA_UNROLL
    for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
      const bool inside = row + i * kRowsAtOnce < p.rows && inputs > 0;
      copy_async(to + i * kRowsAtOnce * kPitch, inside ? source + i * kRowsAtOnce * p.x_stride : x, inside ? 16 : 0);
    }
  } else {
    HEARTMULA_KEEP_LOOP
    for (; row < kRows; row += kRowsAtOnce, to += kRowsAtOnce * kPitch, source += kRowsAtOnce * p.x_stride) {
      HEARTMULA_KEEP_LOOP
      for (int j = 0; j < 8; ++j) to[j] = row < p.rows && j < inputs ? source[j] : uint16_t{0};
    }
  }
}

// The loop is short, for one that does not fit into the instruction cache takes twice as long: nothing in it is
// unrolled but a step's products.
template <int kRowTiles, bool kWide>
__global__ void __launch_bounds__(kThreads) many_kernel(FewProduct p, float* workspace) {
  auto* ring = reinterpret_cast<uint4*>(dynamic_shared());  // [kAhead][kMine][kThreads]
  auto* x = reinterpret_cast<uint16_t*>(ring + kAhead * kMine * kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int first_unit = static_cast<int>(blockIdx.x) * kBlockUnits + thread / kWarp * kMine;
  const int slice = static_cast<int>(blockIdx.y);
  const int stages = (p.slice + kInputs - 1) / kInputs;
  start_next();

  const uint4* units[kMine];
  HEARTMULA_UNROLL
  for (int i = 0; i < kMine; ++i) {
    const int unit = first_unit + i < p.units ? first_unit + i : p.units - 1;
    units[i] = static_cast<const uint4*>(p.weights) + int64_t{unit} * kSliceCount * p.slice + lane;
  }
  int next_stage = 0;  // of the weights
  int next_step = 0;
  const auto load_weights = [&](int slot) {
    const int steps = steps_of(p.slice, next_stage);
    if (next_step < steps) {  // none beyond the last stage
      const int at = next_stage * kInputs * kSliceCount + (slice * steps + next_step) * kWarp;
      HEARTMULA_UNROLL
      for (int i = 0; i < kMine; ++i) copy_async(ring + (slot * kMine + i) * kThreads + thread, units[i] + at);
    }
    commit_copies();
    if (++next_step == kSteps) {
      next_step = 0;
      ++next_stage;
    }
  };
  HEARTMULA_KEEP_LOOP
  for (int slot = 0; slot < kAhead; ++slot) load_weights(slot);
  wait_for_previous();
  load_rows<kRowTiles * 8, kWide>(p, x, slice, 0, thread);
  commit_copies();
  wait_copies<0>();

  float sums[kTiles][kRowTiles][4] = {};
  const uint16_t* lane_x = x + lane / 4 * kPitch + lane % 4 * 8;
  int slot = 0;
  HEARTMULA_KEEP_LOOP
  for (int i = 0; i < stages * kSteps; ++i) {
    const int stage = i / kSteps;
    const int step = i % kSteps;
    wait_copies<kAhead - 1>();
    if (step == 0) {
      sync_block();  // the stage is there, and nobody needs the one before it
      if (stage + 1 < stages) {
        uint16_t* to = x + (stage + 1) % kStages * stage_values(kRowTiles);
        load_rows<kRowTiles * 8, kWide>(p, to, slice, stage + 1, thread);
      }
    }
    if (step < steps_of(p.slice, stage)) {
      const uint16_t* step_x = lane_x + stage % kStages * stage_values(kRowTiles) + step * static_cast<int>(kStep);
      uint4 w[kTiles][2];
      HEARTMULA_UNROLL
      for (int j = 0; j < kMine; ++j) w[j / 2][j % 2] = ring[(slot * kMine + j) * kThreads + thread];
      // Half of the rows at a time, and a sum's two products far apart: the second waits for the first.
      constexpr int kHalf = kRowTiles / 2;
      HEARTMULA_UNROLL
      for (int first = 0; first < kRowTiles; first += kHalf) {
        uint4 v[kHalf];
        HEARTMULA_UNROLL
        for (int j = 0; j < kHalf; ++j) v[j] = *reinterpret_cast<const uint4*>(step_x + (first + j) * 8 * kPitch);
        HEARTMULA_UNROLL
        for (int j = 0; j < kHalf; ++j) {
          HEARTMULA_UNROLL
          for (int tile = 0; tile < kTiles; ++tile) {
            mma_bf16(sums[tile][first + j], {w[tile][0].x, w[tile][1].x, w[tile][0].y, w[tile][1].y}, {v[j].x, v[j].y});
          }
        }
        HEARTMULA_UNROLL
        for (int j = 0; j < kHalf; ++j) {
          HEARTMULA_UNROLL
          for (int tile = 0; tile < kTiles; ++tile) {
            mma_bf16(sums[tile][first + j], {w[tile][0].z, w[tile][1].z, w[tile][0].w, w[tile][1].w}, {v[j].z, v[j].w});
          }
        }
      }
    }
    load_weights(slot);
    if (++slot == kAhead) slot = 0;
  }

  const int outputs = p.units * kUnit;
  float* parts = workspace + static_cast<int64_t>(slice) * kMostRows * outputs;
  HEARTMULA_UNROLL
  for (int tile = 0; tile < kTiles; ++tile) {
    HEARTMULA_UNROLL
    for (int rows = 0; rows < kRowTiles; ++rows) {
      HEARTMULA_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = rows * 8 + lane % 4 * 2 + i % 2;
        const int output = (first_unit + 2 * tile + i / 2) * kUnit + lane / 4;
        if (row < p.rows && output < outputs) parts[row * outputs + output] = sums[tile][rows][i];
      }
    }
  }
}

/// A thread for four outputs of a row.
__global__ void __launch_bounds__(kFinishThreads) finish_kernel(FewProduct p, const float* workspace) {
  start_next();
  wait_for_previous();
  const int row = static_cast<int>(blockIdx.y);
  const int first = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * kTogether;
  if (first >= p.n) return;
  const int outputs = p.units * kUnit;
  const float* parts = workspace + static_cast<int64_t>(row) * outputs + first;
  float part[kSliceCount][kTogether];
  HEARTMULA_UNROLL
  for (int slice = 0; slice < kSliceCount; ++slice) {
    load_floats(part[slice], parts + static_cast<int64_t>(slice) * kMostRows * outputs);
  }
  float sums[kTogether];
  HEARTMULA_UNROLL
  for (int i = 0; i < kTogether; ++i) {
    sums[i] = part[0][i];
    HEARTMULA_UNROLL
    for (int slice = 1; slice < kSliceCount; ++slice) sums[i] += part[slice][i];
  }
  HEARTMULA_UNROLL
  for (int i = 0; i < kTogether; ++i) {
    if (first + i >= p.n) break;
    if (!p.gate) {
      finish_output(p, row, first + i, sums[i], value_before(p, row, first + i));
    } else if (i % 2 == 0) {
      store_few(p, row, (first + i) / 2, silu_of(sums[i]) * sums[i + 1], 0.0f);
    }
  }
}

template <int kRowTiles>
void multiply(cudaStream_t stream, const FewProduct& p, float* workspace) {
  const dim3 blocks(static_cast<unsigned>((p.units + kBlockUnits - 1) / kBlockUnits), kSliceCount);
  const bool wide = p.k % 8 == 0 && p.x_stride % 8 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
  launch(stream, {blocks, dim3(kThreads), static_cast<size_t>(shared_bytes(kRowTiles))},
         wide ? many_kernel<kRowTiles, true> : many_kernel<kRowTiles, false>, p, workspace);
  constexpr int kFinishOutputs = kFinishThreads * kTogether;
  const dim3 finish_blocks(static_cast<unsigned>((p.n + kFinishOutputs - 1) / kFinishOutputs),
                           static_cast<unsigned>(p.rows));
  launch(stream, {finish_blocks, dim3(kFinishThreads)}, finish_kernel, p, workspace);
}

}  // namespace

int64_t many_workspace_floats(int64_t n) {
  return kSliceCount * kMostRows * ((n + 15) / 16 * 16);
}

void many_product(cudaStream_t stream, const FewProduct& product, const FewResources& resources) {
  for (int first = 0; first < product.rows; first += kMostRows) {
    FewProduct p = product;
    p.rows = std::min(kMostRows, product.rows - first);
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
  }
}

}  // namespace heartmula::cuda

// bf16 weights, more rows: a prompt, or many songs. A block multiplies 128 outputs and 64 rows; here the weights, out
// of the same packed copy, are the first operand of mma.m16n8k16 and go straight into registers, 16 outputs a warp,
// some stages of 128 inputs before they are needed, while the rows come through a ring in shared memory, a stage at a
// time.
//
// Where there are enough outputs for every multiprocessor, a block walks through all slices of the inputs and adds
// their sums in registers. Where there are not, it takes one slice; partial sums go to a workspace, and a second kernel
// adds them. Either way in the order of few_product.h.
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
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBlockUnits = kWarps * 2;  // 128 outputs
constexpr int kInputs = static_cast<int>(kStage);
constexpr int kSteps = kInputs / static_cast<int>(kStep);  // of a whole stage
constexpr int kPitch = kInputs + 32;  // of a row of a stage: quarters of a warp meet every bank once
constexpr int kRing = 4;              // stages of the rows
constexpr int kMostRows = 64;
constexpr int kFinishThreads = 256;

/// The stages that a block walks through, counted from 0: all of one slice, then all of the next.
struct Walk {
  int slice;      // inputs
  int per_slice;  // stages
  int first;      // slice
  int count;      // of stages

  __device__ Walk(int slice_inputs, int first_slice, int slices)
      : slice(slice_inputs),
        per_slice((slice_inputs + kInputs - 1) / kInputs),
        first(first_slice),
        count(slices * per_slice) {}
  __device__ int slice_of(int stage) const { return first + stage / per_slice; }
  /// The first input of a stage within its slice, and its steps.
  __device__ int input_of(int stage) const { return stage % per_slice * kInputs; }
  __device__ int steps_of(int stage) const {
    const int left = slice - input_of(stage);
    return (left < kInputs ? left : kInputs) / static_cast<int>(kStep);
  }
  __device__ bool ends_slice(int stage) const { return stage % per_slice == per_slice - 1; }
};

/// Starts the copies of a stage of all rows; zeros beyond the last row and input.
template <int kRows>
__device__ inline void load_rows(uint16_t* ring, const FewProduct& p, const Walk& walk, int stage, bool in_eights) {
  uint16_t* to = ring + stage % kRing * kRows * kPitch;
  for (int item = static_cast<int>(threadIdx.x); item < kRows * kInputs / 8; item += kThreads) {
    const int row = item / (kInputs / 8);
    const int in_stage = item % (kInputs / 8) * 8;
    const int in_slice = walk.input_of(stage) + in_stage;
    const int input = walk.slice_of(stage) * walk.slice + in_slice;
    const bool inside = row < p.rows && in_slice < walk.slice && input < p.k;
    const uint16_t* from = static_cast<const uint16_t*>(p.x) + (inside ? row * p.x_stride + input : 0);
    uint16_t* place = to + row * kPitch + in_stage;
    if (in_eights) {
      copy_async(place, from, inside ? 16 : 0);
    } else {
      for (int i = 0; i < 8; ++i) place[i] = inside && input + i < p.k ? from[i] : uint16_t{0};
    }
  }
}

/// kAll: all slices, and the results; else slice blockIdx.y, and partial sums to the workspace. Either has its weights
/// some stages ahead: of one block a multiprocessor twice as many as of two.
template <int kRowTiles, bool kAll>
__global__ void __launch_bounds__(kThreads, kAll ? 1 : 2) many_kernel(FewProduct p, float* workspace) {
  constexpr int kRows = kRowTiles * 8;
  constexpr int kAhead = kAll ? 2 : 1;
  auto* x = reinterpret_cast<uint16_t*>(dynamic_shared());
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int group = lane / 4;
  const Walk walk(p.slice, kAll ? 0 : static_cast<int>(blockIdx.y), kAll ? kSliceCount : 1);
  const int first_unit =
      static_cast<int>(blockIdx.x) * kBlockUnits + static_cast<int>(threadIdx.x) / kWarp * 2;  // and the next
  start_next();

  uint4 weights[kAhead][kSteps][2];
  const auto load_weights = [&](uint4(&to)[2], int stage, int step) {
    if (stage >= walk.count || step >= walk.steps_of(stage) || first_unit >= p.units) return;
    const int64_t in_unit =
        walk.input_of(stage) * kSliceCount + (walk.slice_of(stage) * walk.steps_of(stage) + step) * kWarp + lane;
    const int64_t unit_size = int64_t{kSliceCount} * p.slice;
    const uint4* from = static_cast<const uint4*>(p.weights) + first_unit * unit_size + in_unit;
    to[0] = load_streaming(from);
    to[1] = load_streaming(from + unit_size);
  };
  HEARTMULA_UNROLL
  for (int ahead = 0; ahead < kAhead; ++ahead) {
    HEARTMULA_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      weights[ahead][step][0] = weights[ahead][step][1] = {0, 0, 0, 0};
      load_weights(weights[ahead][step], ahead, step);
    }
  }
  wait_for_previous();
  const bool in_eights = p.k % 8 == 0 && p.x_stride % 8 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
  for (int stage = 0; stage < kRing - 1; ++stage) {
    if (stage < walk.count) load_rows<kRows>(x, p, walk, stage, in_eights);
    commit_copies();
  }

  float sums[kRowTiles][4] = {};
  float totals[kAll ? kRowTiles : 1][4] = {};
  for (int first = 0; first < walk.count; first += kAhead) {
    HEARTMULA_UNROLL
    for (int ahead = 0; ahead < kAhead; ++ahead) {
      const int stage = first + ahead;
      if (stage >= walk.count) continue;
      wait_copies<kRing - 2>();
      sync_block();  // the stage is there, and everyone has read the one before it
      if (stage + kRing - 1 < walk.count) load_rows<kRows>(x, p, walk, stage + kRing - 1, in_eights);
      commit_copies();
      const uint16_t* lane_x = x + (stage % kRing * kRows + group) * kPitch + lane % 4 * 8;
      HEARTMULA_UNROLL
      for (int step = 0; step < kSteps; ++step) {
        if (step >= walk.steps_of(stage)) continue;
        const uint4 low = weights[ahead][step][0];
        const uint4 high = weights[ahead][step][1];
        load_weights(weights[ahead][step], stage + kAhead, step);
        HEARTMULA_UNROLL
        for (int rows = 0; rows < kRowTiles; ++rows) {
          const uint4 v = *reinterpret_cast<const uint4*>(lane_x + rows * 8 * kPitch + step * static_cast<int>(kStep));
          mma_bf16(sums[rows], {low.x, high.x, low.y, high.y}, {v.x, v.y});
          mma_bf16(sums[rows], {low.z, high.z, low.w, high.w}, {v.z, v.w});
        }
      }
      if (kAll && walk.ends_slice(stage)) {
        const bool begins = walk.slice_of(stage) == 0;
        HEARTMULA_UNROLL
        for (int rows = 0; rows < kRowTiles; ++rows) {
          HEARTMULA_UNROLL
          for (int i = 0; i < 4; ++i) {
            float& total = totals[kAll ? rows : 0][i];
            total = begins ? sums[rows][i] : total + sums[rows][i];
            sums[rows][i] = 0.0f;
          }
        }
      }
    }
  }

  const int outputs = p.units * kUnit;
  HEARTMULA_UNROLL
  for (int rows = 0; rows < kRowTiles; ++rows) {
    HEARTMULA_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = rows * 8 + lane % 4 * 2 + i % 2;
      const int output = (first_unit + i / 2) * kUnit + group;
      if (kAll) {
        const float total = totals[kAll ? rows : 0][i];
        const float next = shuffle_xor(total, 4);  // of the next output: a gate's up
        if (row >= p.rows || output >= p.n) continue;
        if (!p.gate) {
          finish_output(p, row, output, total, value_before(p, row, output));
        } else if (group % 2 == 0) {
          store_few(p, row, output / 2, silu_of(total) * next, 0.0f);
        }
      } else if (row < p.rows && output < outputs) {
        workspace[(static_cast<int64_t>(blockIdx.y) * kMostRows + row) * outputs + output] = sums[rows][i];
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

/// Whether blocks that walk through all slices leave few multiprocessors idle.
bool takes_all_slices(const FewProduct& p, const FewResources& resources) {
  const int blocks = (p.units + kBlockUnits - 1) / kBlockUnits;
  const int waves = (blocks + resources.multiprocessors - 1) / resources.multiprocessors;
  return 4 * blocks >= 3 * waves * resources.multiprocessors;
}

template <int kRowTiles>
void multiply(cudaStream_t stream, const FewProduct& p, const FewResources& resources) {
  const auto blocks = static_cast<unsigned>((p.units + kBlockUnits - 1) / kBlockUnits);
  const size_t shared = size_t{kRing} * kRowTiles * 8 * kPitch * sizeof(uint16_t);
  if (takes_all_slices(p, resources)) {
    launch(stream, {dim3(blocks), dim3(kThreads), shared}, many_kernel<kRowTiles, true>, p, nullptr);
    return;
  }
  launch(stream, {dim3(blocks, kSliceCount), dim3(kThreads), shared}, many_kernel<kRowTiles, false>, p,
         resources.workspace);
  const int items = p.gate ? p.n / 2 : p.n;
  const dim3 finish_blocks(static_cast<unsigned>((items + kFinishThreads - 1) / kFinishThreads),
                           static_cast<unsigned>(p.rows));
  launch(stream, {finish_blocks, dim3(kFinishThreads)}, finish_kernel, p, resources.workspace);
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
      multiply<8>(stream, p, resources);
    } else if (p.rows > 16) {
      multiply<4>(stream, p, resources);
    } else {
      multiply<2>(stream, p, resources);
    }
  }
}

}  // namespace heartmula::cuda

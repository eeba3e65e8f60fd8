// bf16 weights, more rows: a prompt, or many songs. Here the weights, out of the same packed copy, are the first operand
// of mma.m16n8k16: a block multiplies 128 outputs and 64 rows. Weights come by asynchronous copies, each thread's own, so
// that nobody waits for anybody and a deep queue of them is under way; rows come by stages of 128 inputs. Where there are
// outputs for every multiprocessor a block goes through all slices of the inputs and adds their sums; else it has one
// slice, partial sums go to a workspace, and a second kernel adds them. Either way in the order of few_product.h.
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
constexpr int kInputs = static_cast<int>(kStage);
constexpr int kSteps = static_cast<int>(kStage / kStep);
constexpr int kPitch = kInputs + 32;  // values between rows in shared memory, so that they lie in different banks
constexpr int kMostRows = 64;
constexpr int kFinishThreads = 256;

/// How far ahead: steps of weights, and stages of rows. Copies are waited for in the order of their start, so rows are
/// asked for before the weights of the same step and must be the older ones when they are needed.
template <bool kAll>
struct Ahead {
  static constexpr int kWeights = kAll ? 8 : 4;
  static constexpr int kStages = kAll ? 3 : 2;
  static_assert(kWeights <= kSteps * (kStages - 1));
};

template <int kRowTiles, bool kAll>
constexpr int shared_bytes() {
  return Ahead<kAll>::kWeights * kTiles * 2 * kThreads * 16 + Ahead<kAll>::kStages * kRowTiles * 8 * kPitch * 2;
}

/// A stage of the inputs, of a slice.
struct StagePlace {
  int slice;
  int stage;

  __device__ int steps(const FewProduct& p) const {
    const int left = p.slice - stage * kInputs;
    return (left < kInputs ? left : kInputs) / static_cast<int>(kStep);
  }
  __device__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      ++slice;
    }
  }
};

/// Starts the copies of a stage of the rows, [kRows][kPitch]; zeros beyond the rows and the inputs.
template <int kRows>
__device__ inline void load_rows(const FewProduct& p, uint16_t* to, const StagePlace& at, bool wide) {
  constexpr int kChunks = kInputs / 8;
  const auto* x = static_cast<const uint16_t*>(p.x);
  HEARTMULA_UNROLL
  for (int item = 0; item < kRows * kChunks / kThreads; ++item) {
    const int index = item * kThreads + static_cast<int>(threadIdx.x);
    const int row = index / kChunks;
    const int in_slice = at.stage * kInputs + index % kChunks * 8;
    const int input = at.slice * p.slice + in_slice;
    const bool inside = row < p.rows && in_slice < p.slice && input < p.k;
    uint16_t* place = to + row * kPitch + index % kChunks * 8;
    const uint16_t* source = inside ? x + row * p.x_stride + input : x;
    if (wide) {
      copy_async(place, source, inside ? 16 : 0);
      continue;
    }
    uint32_t words[4] = {};
    for (int j = 0; inside && j < 8 && input + j < p.k; ++j) {
      words[j / 2] |= static_cast<uint32_t>(source[j]) << (16 * (j % 2));
    }
    *reinterpret_cast<uint4*>(place) = {words[0], words[1], words[2], words[3]};
  }
}

using Sums = float[4];

/// What a lane has of output i / 2 of a tile: one of eight, and of which row of eight.
__device__ inline int output_of(int first_unit, int tile, int i, int lane) {
  return (first_unit + 2 * tile + i / 2) * kUnit + lane / 4;
}
__device__ inline int row_of(int row_tile, int i, int lane) {
  return row_tile * 8 + lane % 4 * 2 + i % 2;
}

template <int kRowTiles, bool kAll>
__global__ void __launch_bounds__(kThreads) many_kernel(FewProduct p, float* workspace) {
  constexpr int kAhead = Ahead<kAll>::kWeights;
  constexpr int kStages = Ahead<kAll>::kStages;
  constexpr int kStageValues = kRowTiles * 8 * kPitch;
  auto* ring = reinterpret_cast<uint4*>(dynamic_shared());  // [kAhead][kTiles * 2][kThreads]
  auto* x = reinterpret_cast<uint16_t*>(ring + kAhead * kTiles * 2 * kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const int first_unit = static_cast<int>(blockIdx.x) * kBlockUnits + thread / kWarp * kTiles * 2;
  const int stages = (p.slice + kInputs - 1) / kInputs;
  const int my_stages = kAll ? kSliceCount * stages : stages;
  const int first_slice = kAll ? 0 : static_cast<int>(blockIdx.y);
  start_next();

  StagePlace to_load = {first_slice, 0};
  int step_to_load = 0;
  const auto load_weights = [&](int slot) {
    if (to_load.slice < first_slice + (kAll ? kSliceCount : 1) && step_to_load < to_load.steps(p)) {
      const int64_t at = int64_t{to_load.stage} * kInputs * kSliceCount +
                         (to_load.slice * to_load.steps(p) + step_to_load) * kWarp + lane;
      HEARTMULA_UNROLL
      for (int i = 0; i < kTiles * 2; ++i) {
        const int unit = first_unit + i < p.units ? first_unit + i : p.units - 1;
        copy_async(ring + (slot * kTiles * 2 + i) * kThreads + thread,
                   static_cast<const uint4*>(p.weights) + int64_t{unit} * kSliceCount * p.slice + at);
      }
    }
    if (++step_to_load == kSteps) {
      step_to_load = 0;
      to_load.advance(stages);
    }
  };
  HEARTMULA_UNROLL
  for (int slot = 0; slot < kAhead; ++slot) {
    load_weights(slot);
    commit_copies();
  }
  wait_for_previous();
  const bool wide = p.k % 8 == 0 && p.x_stride % 8 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
  StagePlace rows_to_load = {first_slice, 0};
  int rows_slot = 0;
  int rows_left = my_stages;
  const auto load_stage = [&] {
    if (rows_left == 0) return;
    --rows_left;
    load_rows<kRowTiles * 8>(p, x + rows_slot * kStageValues, rows_to_load, wide);
    rows_to_load.advance(stages);
    if (++rows_slot == kStages) rows_slot = 0;
  };
  HEARTMULA_UNROLL
  for (int stage = 0; stage + 1 < kStages; ++stage) load_stage();
  commit_copies();
  wait_copies<0>();

  Sums sums[kTiles][kRowTiles] = {};
  [[maybe_unused]] Sums totals[kTiles][kRowTiles] = {};
  const uint16_t* lane_x = x + lane / 4 * kPitch + lane % 4 * 8;
  StagePlace now = {first_slice, 0};
  int slot = 0;
  int x_slot = 0;
  HEARTMULA_KEEP_LOOP
  for (int i = 0; i < my_stages; ++i) {
    const int steps = now.steps(p);
    HEARTMULA_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      wait_copies<kAhead - 1>();
      if (step == 0) {
        sync_block();  // the stage is there, and nobody needs the one before it
        load_stage();
      }
      if (step < steps) {
        uint4 w[kTiles][2];
        HEARTMULA_UNROLL
        for (int j = 0; j < kTiles * 2; ++j) w[j / 2][j % 2] = ring[(slot * kTiles * 2 + j) * kThreads + thread];
        HEARTMULA_UNROLL
        for (int rows = 0; rows < kRowTiles; ++rows) {
          const uint4 v = *reinterpret_cast<const uint4*>(lane_x + x_slot * kStageValues + rows * 8 * kPitch +
                                                          step * static_cast<int>(kStep));
          HEARTMULA_UNROLL
          for (int tile = 0; tile < kTiles; ++tile) {
            mma_bf16(sums[tile][rows], {w[tile][0].x, w[tile][1].x, w[tile][0].y, w[tile][1].y}, {v.x, v.y});
            mma_bf16(sums[tile][rows], {w[tile][0].z, w[tile][1].z, w[tile][0].w, w[tile][1].w}, {v.z, v.w});
          }
        }
      }
      load_weights(slot);
      commit_copies();
      if (++slot == kAhead) slot = 0;
    }
    if (++x_slot == kStages) x_slot = 0;
    const int slice = now.slice;
    now.advance(stages);
    if constexpr (kAll) {
      if (now.slice == slice) continue;
      HEARTMULA_UNROLL
      for (int tile = 0; tile < kTiles; ++tile) {
        HEARTMULA_UNROLL
        for (int rows = 0; rows < kRowTiles; ++rows) {
          HEARTMULA_UNROLL
          for (int e = 0; e < 4; ++e) {
            totals[tile][rows][e] = slice == 0 ? sums[tile][rows][e] : totals[tile][rows][e] + sums[tile][rows][e];
            sums[tile][rows][e] = 0.0f;
          }
        }
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
        const int row = row_of(rows, i, lane);
        const int output = output_of(first_unit, tile, i, lane);
        if constexpr (kAll) {
          const float sum = totals[tile][rows][i];
          const float up = shuffle_xor(sum, 4);  // of the next output
          if (row >= p.rows || output >= p.n) continue;
          if (!p.gate) {
            finish_output(p, row, output, sum, value_before(p, row, output));
          } else if (output % 2 == 0) {
            store_few(p, row, output / 2, silu_of(sum) * up, 0.0f);
          }
        } else if (row < p.rows && output < outputs) {
          workspace[(static_cast<int64_t>(blockIdx.y) * kMostRows + row) * outputs + output] = sums[tile][rows][i];
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

template <int kRowTiles, bool kAll>
void multiply(cudaStream_t stream, const FewProduct& p, float* workspace) {
  const dim3 blocks(static_cast<unsigned>((p.units + kBlockUnits - 1) / kBlockUnits), kAll ? 1 : kSliceCount);
  launch(stream, {blocks, dim3(kThreads), shared_bytes<kRowTiles, kAll>()}, many_kernel<kRowTiles, kAll>, p, workspace);
  if (kAll) return;
  const int items = p.gate ? p.n / 2 : p.n;
  const dim3 finish_blocks(static_cast<unsigned>((items + kFinishThreads - 1) / kFinishThreads),
                           static_cast<unsigned>(p.rows));
  launch(stream, {finish_blocks, dim3(kFinishThreads)}, finish_kernel, p, workspace);
}

template <int kRowTiles>
void multiply(cudaStream_t stream, const FewProduct& p, const FewResources& resources) {
  const int blocks = p.units / kBlockUnits;
  if (4 * blocks >= 3 * resources.multiprocessors && shared_bytes<kRowTiles, true>() <= resources.shared_bytes) {
    multiply<kRowTiles, true>(stream, p, nullptr);
  } else {
    multiply<kRowTiles, false>(stream, p, resources.workspace);
  }
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

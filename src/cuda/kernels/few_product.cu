// bf16 weights, 1 to 16 rows: memory is the limit, so everything is arranged around a stream of weights that never
// stops. One block a multiprocessor takes a contiguous share of the units (8 outputs each), its eight warps one slice
// of the inputs each; weights are the second operand of mma.m16n8k16, rows the first. With bulk copies a ninth warp
// keeps a ring of stages filled, at most three copies under way: more stand in the way of every small read.
#include <algorithm>

#include "cuda/kernels/device.h"
#include "cuda/kernels/few_epilogue.h"
#include "cuda/kernels/few_product.h"
#include "cuda/kernels/row_sums.h"
#include "cuda/launch.h"
#include "cuda/packed.h"

namespace heartmula::cuda {
namespace {

constexpr int kWarps = 8;  // that multiply: one a slice
constexpr int kThreads = kWarps * kWarp;
constexpr int kMostRows = 16;
constexpr int kUnit = 8;
constexpr int kStageBytes = 16 << 10;
constexpr int kStageSteps = static_cast<int>(kStage / kStep);
constexpr int kMostStages = 10;
constexpr int kOutstanding = 3;
constexpr int kPad = 32;  // values between rows, so that rows lie in different banks
constexpr int kPartFloats = kWarps * kMostRows * kUnit;
constexpr int kBarrier = 1;  // of the warps that multiply

__host__ __device__ constexpr int pitch_of(int slice) {
  return kWarps * slice + kPad;
}

// Shared memory, in this order.
struct Shared {
  unsigned char* stages;  // [ring][kStageBytes]
  uint16_t* x;            // [rows][pitch]
  float* parts;           // [2][slices][kMostRows][kUnit]
  float* sums;            // [kMostRows][kWarps]
  Mbarrier* full;
  Mbarrier* empty;
};

__device__ inline Shared shared_of(const FewProduct& p, int ring) {
  Shared s = {};
  s.stages = dynamic_shared();
  s.x = reinterpret_cast<uint16_t*>(s.stages + ring * kStageBytes);
  s.parts = reinterpret_cast<float*>(s.x + p.rows * pitch_of(p.slice));
  s.sums = s.parts + 2 * kPartFloats;
  s.full = reinterpret_cast<Mbarrier*>(s.sums + kMostRows * kWarps);
  s.empty = s.full + kMostStages;
  return s;
}

int shared_bytes(const FewProduct& p, int ring) {
  return ring * kStageBytes + p.rows * pitch_of(p.slice) * 2 + (2 * kPartFloats + kMostRows * kWarps) * 4 +
         2 * kMostStages * static_cast<int>(sizeof(Mbarrier));
}

__host__ __device__ inline int stages_of(int slice) {
  return (slice + kStage - 1) / kStage;
}
__device__ inline int steps_of(int slice, int stage) {
  const int left = slice - stage * static_cast<int>(kStage);
  return (left < kStage ? left : static_cast<int>(kStage)) / static_cast<int>(kStep);
}

/// A place in the ring, and how often the ring was gone through: code small enough for the instruction cache has no
/// divisions in its loops.
struct RingPlace {
  int slot = 0;
  int parity = 0;

  __device__ void advance(int ring) {
    if (++slot == ring) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// Streams the block's stages; the thread is alone in its warp.
__device__ void produce(const FewProduct& p, const Shared& s, int ring, int first_unit, int last_unit) {
  const int stages = stages_of(p.slice);
  const auto* from =
      static_cast<const unsigned char*>(p.weights) + static_cast<int64_t>(first_unit) * kUnit * kWarps * p.slice * 2;
  const int window = ring < kOutstanding ? ring : kOutstanding;
  RingPlace next;
  RingPlace oldest;  // copy that may be under way
  int begun = 0;
  HEARTMULA_KEEP_LOOP
  for (int unit = first_unit; unit < last_unit; ++unit) {
    HEARTMULA_KEEP_LOOP
    for (int stage = 0; stage < stages; ++stage) {
      if (begun >= ring) wait_mbarrier(&s.empty[next.slot], next.parity ^ 1);
      if (begun >= window) {
        wait_mbarrier(&s.full[oldest.slot], oldest.parity);
        oldest.advance(ring);
      }
      const int bytes = steps_of(p.slice, stage) * kWarps * kWarp * 16;
      expect_bytes(&s.full[next.slot], bytes);
      copy_bulk(s.stages + next.slot * kStageBytes, from, bytes, &s.full[next.slot]);
      from += bytes;
      next.advance(ring);
      ++begun;
    }
  }
}

// kGroup rows of at most 8192 inputs: all reads first, then all writes.
template <int kGroup>
__device__ void copy_rows(const FewProduct& p, const Shared& s, int first_row, int thread) {
  constexpr int kVectors = 4;
  const auto* x = static_cast<const uint16_t*>(p.x);
  uint4 values[kGroup][kVectors];
  HEARTMULA_UNROLL
  for (int r = 0; r < kGroup; ++r) {
    HEARTMULA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      const int i = 8 * (thread + j * kThreads);
      values[r][j] = {0, 0, 0, 0};
      if (i < p.k && first_row + r < p.rows) {
        values[r][j] = *reinterpret_cast<const uint4*>(x + (first_row + r) * p.x_stride + i);
      }
    }
  }
  HEARTMULA_UNROLL
  for (int r = 0; r < kGroup; ++r) {
    HEARTMULA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      const int i = 8 * (thread + j * kThreads);
      if (i < kWarps * p.slice && first_row + r < p.rows) {
        *reinterpret_cast<uint4*>(s.x + (first_row + r) * pitch_of(p.slice) + i) = values[r][j];
      }
    }
  }
}

// kGroup rows of at most 4096 inputs, as this thread's share of each.
template <int kGroup>
struct NormRows {
  float4 values[kGroup][kRowVectors];

  __device__ void load(const FewProduct& p, int first_row, int thread) {
    HEARTMULA_UNROLL
    for (int r = 0; r < kGroup; ++r) {
      HEARTMULA_UNROLL
      for (int j = 0; j < kRowVectors; ++j) {
        const int i = 4 * (thread + j * kThreads);
        values[r][j] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (i < p.k && first_row + r < p.rows) {
          values[r][j] =
              *reinterpret_cast<const float4*>(static_cast<const float*>(p.x) + (first_row + r) * p.x_stride + i);
        }
      }
    }
  }
  __device__ void add_squares(const FewProduct& p, const Shared& s, int first_row, int thread) const {
    HEARTMULA_UNROLL
    for (int r = 0; r < kGroup; ++r) {
      float share = 0.0f;
      HEARTMULA_UNROLL
      for (int j = 0; j < kRowVectors; ++j) {
        share = add_four(share, values[r][j], Square{});  // zeros beyond the row
      }
      share = warp_sum(share);
      if (thread % kWarp == 0 && first_row + r < p.rows) s.sums[(first_row + r) * kWarps + thread / kWarp] = share;
    }
  }
  __device__ void store(const FewProduct& p, const Shared& s, const float4 (&gain)[kRowVectors], int first_row,
                        int thread) const {
    HEARTMULA_UNROLL
    for (int r = 0; r < kGroup; ++r) {
      if (first_row + r >= p.rows) break;
      const float factor = norm_factor(p, s, first_row + r);
      HEARTMULA_UNROLL
      for (int j = 0; j < kRowVectors; ++j) {
        const int i = 4 * (thread + j * kThreads);
        const float4& v = values[r][j];
        const float4& g = gain[j];
        if (i < kWarps * p.slice) {
          *reinterpret_cast<uint2*>(s.x + (first_row + r) * pitch_of(p.slice) + i) = {
              to_bf16_pair(v.x * factor * g.x, v.y * factor * g.y),
              to_bf16_pair(v.z * factor * g.z, v.w * factor * g.w)};
        }
      }
    }
  }
  static __device__ float norm_factor(const FewProduct& p, const Shared& s, int row) {
    return 1.0f / sqrtf(sum_of_warps(s.sums + row * kWarps) / static_cast<float>(p.k) + p.norm_eps);
  }
};

template <int kGroup>
__device__ void norm_rows(const FewProduct& p, const Shared& s, const float4 (&gain)[kRowVectors], int thread) {
  NormRows<kGroup> rows;
  HEARTMULA_KEEP_LOOP
  for (int first = 0; first < p.rows; first += kGroup) {
    rows.load(p, first, thread);
    rows.add_squares(p, s, first, thread);
  }
  sync_some(kBarrier, kThreads);
  HEARTMULA_KEEP_LOOP
  for (int first = 0; first < p.rows; first += kGroup) {
    if (p.rows > kGroup) rows.load(p, first, thread);
    rows.store(p, s, gain, first, thread);
  }
}

// Rows of any length and place, an element at a time.
__device__ void load_odd_rows(const FewProduct& p, const Shared& s, int thread) {
  const auto* floats = static_cast<const float*>(p.x);
  const auto* halves = static_cast<const uint16_t*>(p.x);
  if (p.norm_gain != nullptr) {
    HEARTMULA_KEEP_LOOP
    for (int row = 0; row < p.rows; ++row) {
      const float share = warp_sum(share_of_row(floats + row * p.x_stride, p.k, thread, Square{}));
      if (thread % kWarp == 0) s.sums[row * kWarps + thread / kWarp] = share;
    }
    sync_some(kBarrier, kThreads);
  }
  HEARTMULA_KEEP_LOOP
  for (int row = 0; row < p.rows; ++row) {
    const float factor = p.norm_gain != nullptr ? NormRows<1>::norm_factor(p, s, row) : 1.0f;
    HEARTMULA_KEEP_LOOP
    for (int i = thread; i < kWarps * p.slice; i += kThreads) {
      uint16_t value = 0;
      if (i < p.k) {
        value = p.norm_gain != nullptr ? to_bf16(floats[row * p.x_stride + i] * factor * p.norm_gain[i])
                                       : halves[row * p.x_stride + i];
      }
      s.x[row * pitch_of(p.slice) + i] = value;
    }
  }
}

// The rows, normed and rounded where asked, into shared memory, with zeros from k to the end of the last slice.
__device__ void load_rows(const FewProduct& p, const Shared& s, int thread) {
  const bool norm = p.norm_gain != nullptr;
  const int together = norm ? 4 : 8;  // values of 16 bytes
  const int most = norm ? 4 * kRowVectors * kThreads : 8 * 4 * kThreads;
  const bool even = p.k % together == 0 && p.x_stride % together == 0 && kWarps * p.slice <= most &&
                    reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
  float4 gain[kRowVectors];
  if (norm && even) {
    HEARTMULA_UNROLL
    for (int j = 0; j < kRowVectors; ++j) {
      const int i = 4 * (thread + j * kThreads);
      gain[j] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (i < p.k) gain[j] = *reinterpret_cast<const float4*>(p.norm_gain + i);
    }
  }
  wait_for_previous();
  if (!even) {
    load_odd_rows(p, s, thread);
  } else if (norm && p.rows <= 2) {
    norm_rows<2>(p, s, gain, thread);
  } else if (norm) {
    norm_rows<4>(p, s, gain, thread);
  } else if (p.rows <= 2) {
    copy_rows<2>(p, s, 0, thread);
  } else {
    HEARTMULA_KEEP_LOOP
    for (int first = 0; first < p.rows; first += 4) copy_rows<4>(p, s, first, thread);
  }
}

// Adds a step of 32 inputs: two products of 16.
__device__ inline void multiply_step(float (&sums)[4], const uint4& w, const uint16_t* x, int rows, int row,
                                     int pitch) {
  const uint4 zero = {0, 0, 0, 0};
  const uint4 top = row < rows ? *reinterpret_cast<const uint4*>(x + row * pitch) : zero;
  const uint4 low = row + 8 < rows ? *reinterpret_cast<const uint4*>(x + (row + 8) * pitch) : zero;
  mma_bf16(sums, {top.x, low.x, top.y, low.y}, {w.x, w.y});
  mma_bf16(sums, {top.z, low.z, top.w, low.w}, {w.z, w.w});
}

template <bool kRing>
__global__ void __launch_bounds__(kThreads + (kRing ? kWarp : 0), 1) few_kernel(FewProduct p, int ring) {
  const Shared s = shared_of(p, ring);
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = thread % kWarp;
  const int blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  const int first_unit = p.units * block / blocks;
  const int last_unit = p.units * (block + 1) / blocks;
  start_next();
  if (kRing) {
    if (thread == 0) {
      for (int i = 0; i < ring; ++i) {
        init_mbarrier(&s.full[i], 1);
        init_mbarrier(&s.empty[i], kWarps);
      }
      fence_mbarriers();
    }
    sync_block();
    if (warp == kWarps) {
      if (lane == 0) produce(p, s, ring, first_unit, last_unit);
      return;
    }
  }
  load_rows(p, s, thread);
  sync_some(kBarrier, kThreads);

  const int stages = stages_of(p.slice);
  const int pitch = pitch_of(p.slice);
  const int row = lane / 4;
  const uint16_t* x = s.x + warp * p.slice + lane % 4 * 8;
  RingPlace place;
  HEARTMULA_KEEP_LOOP
  for (int unit = first_unit; unit < last_unit; ++unit) {
    float sums[4] = {};
    // Another warp finishes each unit, so that none holds up the stream.
    const FewItem<kUnit> item(p, unit, (thread + kThreads - (unit - first_unit) % kWarps * kWarp) % kThreads);
    const float before = item.valid ? value_before(p, item.row, item.column) : 0.0f;
    HEARTMULA_KEEP_LOOP
    for (int stage = 0; stage < stages; ++stage) {
      const int steps = steps_of(p.slice, stage);
      const uint16_t* stage_x = x + stage * static_cast<int>(kStage);
      const uint4* weights;
      if (kRing) {
        wait_mbarrier(&s.full[place.slot], place.parity);
        weights = reinterpret_cast<const uint4*>(s.stages + place.slot * kStageBytes);
      } else {
        weights = static_cast<const uint4*>(p.weights) + static_cast<int64_t>(unit) * kWarps * p.slice +
                  stage * static_cast<int>(kStage) * kWarps;
      }
      weights += warp * steps * kWarp + lane;
      uint4 w[kStageSteps] = {};
      HEARTMULA_UNROLL
      for (int step = 0; step < kStageSteps; ++step) {
        if (step < steps) w[step] = kRing ? weights[step * kWarp] : load_streaming(weights + step * kWarp);
      }
      HEARTMULA_UNROLL
      for (int step = 0; step < kStageSteps; ++step) {
        if (step < steps) {
          multiply_step(sums, w[step], stage_x + step * static_cast<int>(kStep), p.rows, row, pitch);
        }
      }
      if (kRing) {
        sync_warp();
        if (lane == 0) arrive(&s.empty[place.slot]);
        place.advance(ring);
      }
    }
    float* parts = s.parts + (unit - first_unit) % 2 * kPartFloats;
    float* mine = parts + (warp * kMostRows + row) * kUnit + lane % 4 * 2;
    mine[0] = sums[0];
    mine[1] = sums[1];
    mine[8 * kUnit] = sums[2];
    mine[8 * kUnit + 1] = sums[3];
    sync_some(kBarrier, kThreads);
    // Written again two units from now, after the next barrier.
    finish_item(p, item, before,
                [&](int slice, int r, int output) { return parts[(slice * kMostRows + r) * kUnit + output]; });
  }
}

}  // namespace

bool few_fits(const FewProduct& p, const FewResources& resources) {
  return p.rows <= kMostRows && shared_bytes(p, resources.bulk_copies ? 4 : 0) <= resources.shared_bytes;
}

void few_product_bf16(cudaStream_t stream, const FewProduct& p, const FewResources& resources) {
  if (!resources.bulk_copies) {
    // Two blocks a multiprocessor, so that one multiplies while the other waits.
    const int blocks = std::min(p.units, 2 * resources.multiprocessors);
    launch(stream, {dim3(static_cast<unsigned>(blocks)), dim3(kThreads), static_cast<size_t>(shared_bytes(p, 0))},
           few_kernel<false>, p, 0);
    return;
  }
  const int blocks = std::min(p.units, resources.multiprocessors);
  // No more than half of what a block streams: what a short matrix leaves of the shared memory is room for the blocks
  // of attention before and after it, so that each of them is there when its turn comes.
  const int stages = (p.units * stages_of(p.slice) + blocks - 1) / blocks;
  int ring = std::min(kMostStages, std::max(2, (stages + 1) / 2));
  while (shared_bytes(p, ring) > resources.shared_bytes) --ring;
  launch(stream,
         {dim3(static_cast<unsigned>(blocks)), dim3(kThreads + kWarp), static_cast<size_t>(shared_bytes(p, ring))},
         few_kernel<true>, p, ring);
}

}  // namespace heartmula::cuda

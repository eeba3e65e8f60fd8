// A residual unit of 64 or 128 channels in bf16: out += second(first(x)), copy = out, in one kernel. Few channels leave
// little to multiply for each byte, so what stands between the two products does not go through memory.
//
// Contract: gemm.h, residual_unit_gemm; the bits are those of two products, whose sums have the same order.
//
// A block takes 128 or 256 rows, a warp 32 of them with all their outputs. The rows and what the taps reach beyond them
// are copied to shared memory once; the weights of both products follow each other through a ring there, 64 of k at a
// time. A warp's outputs of the first product, rounded, are its left side of the second: a fragment of sums has the
// places of half a fragment of the left side. Chunks of 16 bytes are permuted by the row against bank conflicts.
#include "cuda/kernels/gemm_epilogue.h"
#include "cuda/launch.h"

namespace heartmula::cuda {
namespace {

constexpr int kStep = 64;   // of k, in shared memory
constexpr int kDepth = 16;  // of k, of one mma
constexpr int kWarpRows = 32;
constexpr int kRowFragments = kWarpRows / 16;

template <int kOutputs, int kWarps>
struct Tile {
  static constexpr int kChannels = kOutputs;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocks = 2;                 // on a multiprocessor: one multiplies while the other one stores
  static constexpr int kPitch = kChannels * 2;      // bytes of a row of x
  static constexpr int kChunks = kChannels / 8;     // of a row of x
  static constexpr int kSteps = kChannels / kStep;  // of a tap, and of the second product
  static constexpr int kStages = 3;
  static constexpr int kStageBytes = kChannels * kStep * 2;
  static constexpr int kFragments = kChannels / 8;  // of outputs
  using Sums = GemmSums<kRows, kChannels, kThreads>;

  /// Bytes of x in shared memory, with `halo` more rows.
  __device__ __host__ static int x_bytes(int halo) { return (kRows + halo) * kPitch; }
  static int shared_bytes(int halo) {
    const int bytes = x_bytes(halo) + kStages * kStageBytes;
    return bytes > Sums::kBytes ? bytes : Sums::kBytes;
  }
  __device__ static int x_place(int row, int chunk) { return row * kPitch + ((chunk ^ (row & 7)) * 16); }
  __device__ static int w_place(int row, int chunk) { return row * kStep * 2 + ((chunk ^ (row & 7)) * 16); }

  /// Starts the copies of step `step` of the weights of both products.
  __device__ static void load_weights(unsigned char* ring, const GemmProduct& first, const GemmProduct& second,
                                      int step) {
    const int first_steps = first.k / kStep;
    const GemmProduct& p = step < first_steps ? first : second;
    const int k = (step < first_steps ? step : step - first_steps) * kStep;
    unsigned char* to = ring + step % kStages * kStageBytes;
    HEARTMULA_UNROLL
    for (int i = 0; i < kChannels * 8 / kThreads; ++i) {
      const int index = i * kThreads + static_cast<int>(threadIdx.x);
      const int row = index / 8;
      const int chunk = index % 8;
      copy_async(to + w_place(row, chunk), static_cast<const uint16_t*>(p.w) + row * p.w_stride + k + chunk * 8);
    }
  }
  /// Starts the copies of x from row `row` on; zeros beyond its last one.
  __device__ static void load_x(unsigned char* to, const GemmProduct& first, int row, int halo) {
    for (int index = static_cast<int>(threadIdx.x); index < (kRows + halo) * kChunks; index += kThreads) {
      const int at = index / kChunks;
      const bool inside = row + at < first.rows + halo;
      const auto* from = static_cast<const uint16_t*>(first.x) + (row + at) * first.x_stride + index % kChunks * 8;
      copy_async(to + x_place(at, index % kChunks), inside ? from : first.x, inside ? 16 : 0);
    }
  }

  /// sums += left * W of 16 of k; `weights` is a stage.
  __device__ static void multiply(float (&sums)[kRowFragments][kFragments][4], const uint32_t (&left)[kRowFragments][4],
                                  const unsigned char* weights, int depth) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    HEARTMULA_UNROLL
    for (int j = 0; j < kFragments; j += 2) {
      uint32_t both[4];
      load_matrices(both, weights + w_place(j * 8 + lane % 8 + lane / 16 * 8, depth * 2 + lane / 8 % 2));
      HEARTMULA_UNROLL
      for (int m = 0; m < kRowFragments; ++m) {
        mma_bf16(sums[m][j], left[m], {both[0], both[1]});
        mma_bf16(sums[m][j + 1], left[m], {both[2], both[3]});
      }
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(T::kThreads, T::kBlocks)
    residual_unit(const GemmProduct first, const GemmProduct second) {
  __shared__ float bias[T::kChannels];
  start_next();
  const int dilation = static_cast<int>(first.tap_step / first.x_stride);
  const int taps = first.k / T::kChannels;
  const int halo = (taps - 1) * dilation;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * kWarpRows;
  const int tile_row = static_cast<int>(blockIdx.x) * T::kRows;
  unsigned char* x = dynamic_shared();
  unsigned char* ring = x + T::x_bytes(halo);
  const int steps = (taps + 1) * T::kSteps;

  HEARTMULA_UNROLL
  for (int step = 0; step < T::kStages - 1; ++step) T::load_weights(ring, first, second, step);
  wait_for_previous();
  T::load_x(x, first, tile_row, halo);
  commit_copies();
  T::Sums::prefetch_old(second, {tile_row, 0});
  for (int i = static_cast<int>(threadIdx.x); i < T::kChannels; i += T::kThreads) {
    bias[i] = first.bias == nullptr ? 0.0F : first.bias[i];
  }
  wait_copies<0>();
  // Waits for a step's weights and starts the copies of a later one, in the stage that everyone has read.
  const auto weights_of = [&](int step) -> const unsigned char* {
    wait_copies<T::kStages - 2>();
    sync_block();
    if (step + T::kStages - 1 < steps) T::load_weights(ring, first, second, step + T::kStages - 1);
    commit_copies();
    return ring + step % T::kStages * T::kStageBytes;
  };

  uint32_t between[kRowFragments][T::kFragments][2];  // pairs of rows lane / 4 and 8 below
  {
    float sums[kRowFragments][T::kFragments][4] = {};
    for (int step = 0; step < taps * T::kSteps; ++step) {
      const unsigned char* weights = weights_of(step);
      const int row = warp_row + step / T::kSteps * dilation + lane % 16;
      HEARTMULA_UNROLL
      for (int depth = 0; depth < kStep / kDepth; ++depth) {
        const int chunk = step % T::kSteps * 8 + depth * 2 + lane / 16;
        uint32_t left[kRowFragments][4];
        HEARTMULA_UNROLL
        for (int m = 0; m < kRowFragments; ++m) load_matrices(left[m], x + T::x_place(row + m * 16, chunk));
        T::multiply(sums, left, weights, depth);
      }
    }
    HEARTMULA_UNROLL
    for (int j = 0; j < T::kFragments; ++j) {
      const float2 two = *reinterpret_cast<const float2*>(bias + j * 8 + lane % 4 * 2);
      HEARTMULA_UNROLL
      for (int m = 0; m < kRowFragments; ++m) {
        HEARTMULA_UNROLL
        for (int half = 0; half < 2; ++half) {
          between[m][j][half] = to_bf16_pair(gemm_finish(first, sums[m][j][2 * half], two.x, 1.0F),
                                             gemm_finish(first, sums[m][j][2 * half + 1], two.y, 1.0F));
        }
      }
    }
  }

  float sums[kRowFragments][T::kFragments][4] = {};
  HEARTMULA_UNROLL
  for (int step = 0; step < T::kSteps; ++step) {
    const unsigned char* weights = weights_of(taps * T::kSteps + step);
    HEARTMULA_UNROLL
    for (int depth = 0; depth < kStep / kDepth; ++depth) {
      const int j = (step * kStep + depth * kDepth) / 8;
      uint32_t left[kRowFragments][4];
      HEARTMULA_UNROLL
      for (int m = 0; m < kRowFragments; ++m) {
        left[m][0] = between[m][j][0];
        left[m][1] = between[m][j][1];
        left[m][2] = between[m][j + 1][0];
        left[m][3] = between[m][j + 1][1];
      }
      T::multiply(sums, left, weights, depth);
    }
  }
  sync_block();  // nobody needs rows and weights
  auto* all = reinterpret_cast<float*>(x);
  HEARTMULA_UNROLL
  for (int m = 0; m < kRowFragments; ++m) T::Sums::put(all, warp_row + m * 16, 0, sums[m]);
  sync_block();
  T::Sums::finish(second, all, {tile_row, 0});
}

template <typename T>
bool launch_unit(cudaStream_t stream, const GemmProduct& first, const GemmProduct& second, const GpuLimits& gpu) {
  const int64_t halo = (first.k / T::kChannels - 1) * (first.tap_step / first.x_stride);
  if (halo > T::kRows || T::shared_bytes(static_cast<int>(halo)) > gpu.shared_bytes) return false;
  launch(stream,
         {.blocks = dim3(static_cast<unsigned>(gemm_blocks(first, T::kRows, T::kChannels))),
          .threads = dim3(T::kThreads),
          .shared_bytes = static_cast<size_t>(T::shared_bytes(static_cast<int>(halo)))},
         residual_unit<T>, first, second);
  return true;
}

}  // namespace

bool residual_unit_bf16(cudaStream_t stream, const GemmProduct& first, const GemmProduct& second,
                        const GpuLimits& gpu) {
  if (first.n != first.channels || second.n != first.n || second.k != first.n) return false;
  if (!first.aligned_input || !second.aligned_output) return false;
  if (first.n == 64) return launch_unit<Tile<64, 8>>(stream, first, second, gpu);
  return first.n == 128 && launch_unit<Tile<128, 4>>(stream, first, second, gpu);
}

}  // namespace heartmula::cuda

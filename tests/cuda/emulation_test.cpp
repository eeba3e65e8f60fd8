// The emulated GPU (tests/cuda/emulation) does what a GPU does, and notices what a GPU would not forgive.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "cuda/kernels/device.h"
#include "cuda/launch.h"
#include "heartmula/error.h"

namespace heartmula::cuda {
namespace {

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count), memory_(allocate_device(count * sizeof(T))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    check(cudaMemcpy(data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "copying");
  }
  T* data() const { return static_cast<T*>(memory_.get()); }
  std::vector<T> values() const {
    std::vector<T> values(count_);
    check(cudaMemcpy(values.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost), "copying");
    return values;
  }

 private:
  size_t count_;
  std::shared_ptr<void> memory_;
};

struct Stream {
  Stream() { check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "creating a stream"); }
  ~Stream() { cudaStreamDestroy(handle); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return handle; }  // NOLINT(google-explicit-constructor)
  cudaStream_t handle = nullptr;
};

/// While it lives.
struct Setting {
  Setting(const char* name_, const char* value) : name(name_) { setenv(name, value, 1); }
  ~Setting() { unsetenv(name); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;
  const char* name;
};

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// sums[block] = the sum of the block's `count` values, by butterflies and shared memory.
__global__ void __launch_bounds__(256)
    sum_blocks(float* __restrict__ sums, const float* __restrict__ values, int count) {
  start_next();
  wait_for_previous();
  __shared__ float of_warps[8];
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  float sum = 0;
  for (int i = thread; i < count; i += threads) sum += values[static_cast<int>(blockIdx.x) * count + i];
  for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  if (thread % kWarp == 0) of_warps[thread / kWarp] = sum;
  sync_block();
  if (thread > 0) return;
  for (int warp = 1; warp < threads / kWarp; ++warp) sum += of_warps[warp];
  sums[blockIdx.x] = sum;
}

TEST(Emulation, barriers_and_shuffles) {
  constexpr int kBlocks = 5;
  constexpr int kCount = 700;
  std::vector<float> values(kBlocks * kCount);
  std::iota(values.begin(), values.end(), 0.0F);
  const DeviceArray<float> in(values);
  const DeviceArray<float> out(kBlocks);
  const Stream stream;
  launch(stream, {.blocks = kBlocks, .threads = 256}, sum_blocks, out.data(), in.data(), kCount);
  check(cudaStreamSynchronize(stream), "waiting");
  for (int block = 0; block < kBlocks; ++block) {
    const double want = kCount * (block * kCount + (kCount - 1) / 2.0);
    EXPECT_NEAR(out.values()[static_cast<size_t>(block)], want, 1e-6 * want);
  }
}

// d [16, 8] = a [16, 16] b [8, 16]^T, through shared memory.
__global__ void multiply_tile(float* d, const uint16_t* a, const uint16_t* b) {
  wait_for_previous();
  auto* tile = reinterpret_cast<uint16_t*>(dynamic_shared());
  const int lane = static_cast<int>(threadIdx.x);
  copy_async(tile + 8 * lane, a + 8 * lane);
  if (lane < 16) copy_async(tile + 256 + 8 * lane, b + 8 * lane);
  commit_copies();
  wait_copies<0>();
  sync_block();
  uint32_t left[4];
  uint32_t right[4];
  load_matrices(left, tile + lane % 16 * 16 + lane / 16 * 8);
  load_matrices(right, tile + 256 + lane % 8 * 16 + lane / 8 % 2 * 8);
  float sum[4] = {};
  const uint32_t both[2] = {right[0], right[1]};
  mma_bf16(sum, left, both);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

TEST(Emulation, matrix_product) {
  const std::vector<float> values = random_floats(16 * 16 + 8 * 16, 1);
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(to_bf16(value));
  const DeviceArray<uint16_t> in(bits);
  const DeviceArray<float> out(16 * 8);
  launch(nullptr, {.blocks = 1, .threads = 32, .shared_bytes = 768}, multiply_tile, out.data(), in.data(),
         in.data() + 256);
  for (size_t row = 0; row < 16; ++row) {
    for (size_t column = 0; column < 8; ++column) {
      double want = 0;
      for (size_t k = 0; k < 16; ++k) {
        want += double{from_bf16(bits[row * 16 + k])} * double{from_bf16(bits[256 + column * 16 + k])};
      }
      EXPECT_FLOAT_EQ(out.values()[row * 8 + column], static_cast<float>(want));
    }
  }
}

// out [8, 32]: each matrix transposed.
__global__ void transpose_tiles(uint16_t* out, const uint16_t* in) {
  wait_for_previous();
  __shared__ __align__(16) uint16_t tile[256];
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) tile[8 * lane + i] = in[8 * lane + i];
  sync_block();
  uint32_t r[4];
  load_matrices_transposed(r, tile + 8 * lane);
  for (int i = 0; i < 4; ++i) {
    out[i * 64 + lane / 4 * 8 + lane % 4 * 2] = static_cast<uint16_t>(r[i]);
    out[i * 64 + lane / 4 * 8 + lane % 4 * 2 + 1] = static_cast<uint16_t>(r[i] >> 16);
  }
}

TEST(Emulation, matrices_transposed) {
  std::vector<uint16_t> values(256);
  std::iota(values.begin(), values.end(), uint16_t{0});
  const DeviceArray<uint16_t> in(values);
  const DeviceArray<uint16_t> out(256);
  launch(nullptr, {.blocks = 1, .threads = 32}, transpose_tiles, out.data(), in.data());
  const std::vector<uint16_t> got = out.values();
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(got[i], values[i / 64 * 64 + i % 8 * 8 + i / 8 % 8]);
}

constexpr int kStage = 64;  // floats
constexpr int kStages = 3;

// sums[i] = the sum of values[i], values[i + 64], ...: a warp copies, two add; a ring of stages lies between them.
__global__ void sum_through_ring(float* sums, const float* values, int stages) {
  wait_for_previous();
  auto* ring = reinterpret_cast<float*>(dynamic_shared());
  __shared__ Mbarrier full[kStages];
  __shared__ Mbarrier empty[kStages];
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_mbarrier(&full[i], 1);
      init_mbarrier(&empty[i], kStage);
    }
    fence_mbarriers();
  }
  sync_block();
  if (thread >= kStage) {
    if (thread > kStage) return;
    for (int stage = 0; stage < stages; ++stage) {
      const int at = stage % kStages;
      wait_mbarrier(&empty[at], stage / kStages % 2 ^ 1);
      constexpr int kBytes = kStage * static_cast<int>(sizeof(float));
      expect_bytes(&full[at], kBytes);
      copy_bulk(ring + at * kStage, values + stage * kStage, kBytes, &full[at]);
    }
    return;
  }
  float sum = 0;
  for (int stage = 0; stage < stages; ++stage) {
    const int at = stage % kStages;
    wait_mbarrier(&full[at], stage / kStages % 2);
    sum += ring[at * kStage + thread];
    arrive(&empty[at]);
  }
  sync_some(1, kStage);
  sums[thread] = sum;
}

TEST(Emulation, bulk_copies_through_a_ring) {
  constexpr int kCount = 20;
  const std::vector<float> values = random_floats(kCount * kStage, 2);
  const DeviceArray<float> in(values);
  const DeviceArray<float> out(kStage);
  for (int i = 0; i < 4; ++i) {
    launch(nullptr, {.blocks = 2, .threads = kStage + 32, .shared_bytes = kStages * kStage * sizeof(float)},
           sum_through_ring, out.data(), in.data(), kCount);
    const std::vector<float> got = out.values();
    for (size_t column = 0; column < kStage; ++column) {
      float want = 0;
      for (size_t stage = 0; stage < kCount; ++stage) want += values[stage * kStage + column];
      EXPECT_EQ(got[column], want);
    }
  }
}

__global__ void count_odd(int* counts, const int* values) {
  wait_for_previous();
  const int count = count_block(values[threadIdx.x + blockDim.x * blockIdx.x] % 2 != 0);
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

TEST(Emulation, threads_that_a_predicate_holds_for) {
  std::vector<int> values(200);
  std::iota(values.begin(), values.end(), 0);
  const DeviceArray<int> in(values);
  const DeviceArray<int> out(2);
  launch(nullptr, {.blocks = 2, .threads = 100}, count_odd, out.data(), in.data());
  EXPECT_THAT(out.values(), testing::Each(50));
}

__global__ void add(float* x, float value) {
  start_next();
  wait_for_previous();
  x[threadIdx.x] += value;
}

TEST(Emulation, graph_replays_what_was_captured) {
  const DeviceArray<float> x(std::vector<float>(40, 1.0F));
  const DeviceArray<float> copied(40);
  const Stream stream;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
  launch(stream, {.blocks = 1, .threads = 40}, add, x.data(), 2.0F);
  check(cudaMemcpyAsync(copied.data(), x.data(), 40 * sizeof(float), cudaMemcpyDeviceToDevice, stream), "copying");
  launch(stream, {.blocks = 1, .threads = 40}, add, x.data(), 3.0F);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "capturing");
  cudaGraphExec_t program = nullptr;
  check(cudaGraphInstantiate(&program, graph, 0), "making a graph");
  cudaGraphDestroy(graph);
  EXPECT_THAT(x.values(), testing::Each(1.0F)) << "capturing runs nothing";
  for (int i = 0; i < 3; ++i) check(cudaGraphLaunch(program, stream), "running a graph");
  check(cudaStreamSynchronize(stream), "waiting");
  EXPECT_THAT(x.values(), testing::Each(16.0F));
  EXPECT_THAT(copied.values(), testing::Each(13.0F));
  cudaGraphExecDestroy(program);
}

TEST(Emulation, work_is_done_when_waited_for) {
  const DeviceArray<float> x(std::vector<float>(8, 1.0F));
  const auto pinned = allocate_pinned(8 * sizeof(float));
  const auto* host = static_cast<const float*>(pinned.get());
  const Stream first;
  const Stream second;
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  launch(first, {.blocks = 1, .threads = 8}, add, x.data(), 1.0F);
  check(cudaEventRecord(event, first), "recording an event");
  check(cudaStreamWaitEvent(second, event), "waiting");
  check(cudaMemcpyAsync(pinned.get(), x.data(), 8 * sizeof(float), cudaMemcpyDeviceToHost, second), "copying");
  EXPECT_TRUE(std::isnan(host[0])) << "pinned memory begins as NaN, too";
  check(cudaStreamSynchronize(second), "waiting");
  EXPECT_EQ(host[7], 2.0F);
  cudaEventDestroy(event);
}

TEST(Emulation, two_threads_run_kernels_at_once) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([] {
      const DeviceArray<float> in(std::vector<float>(4 * 300, 0.5F));
      const DeviceArray<float> out(4);
      const Stream stream;
      for (int run = 0; run < 20; ++run) {
        launch(stream, {.blocks = 4, .threads = 128}, sum_blocks, out.data(), in.data(), 300);
        check(cudaStreamSynchronize(stream), "waiting");
        EXPECT_THAT(out.values(), testing::Each(150.0F));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// ---- what goes wrong

__global__ void half_waits() {
  wait_for_previous();
  if (threadIdx.x < 32) {
    sync_some(3, 64);
  } else {
    sync_block();
  }
}

__global__ void forgets_the_previous(float* x) {
  x[threadIdx.x] = 0;
}

__global__ void reads_too_early(float* out, const float* in) {
  wait_for_previous();
  auto* shared = reinterpret_cast<float*>(dynamic_shared());
  copy_async(shared + 4 * threadIdx.x, in + 4 * threadIdx.x);
  commit_copies();
  out[threadIdx.x] = shared[4 * threadIdx.x];
}

__global__ void shuffles_alone() {
  wait_for_previous();
  if (threadIdx.x == 5) return;
  shuffle_xor(1.0F, 1);
}

TEST(EmulationDeathTest, deadlock_is_told) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(launch(nullptr, {.blocks = 1, .threads = 64}, half_waits),
               "emulation_test.cpp:[0-9]+, block .0, 0, 0.*deadlock; of 64 threads 0 have ended; 32 of the threads 32 "
               "to 63 wait in sync_block .barrier 0.; 32 of the threads 0 to 31 wait in sync_some .barrier 3.");
}

TEST(EmulationDeathTest, missing_lane_is_told) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(launch(nullptr, {.blocks = 1, .threads = 32}, shuffles_alone), "lane of (a|the) warp has ended");
}

TEST(EmulationDeathTest, missing_wait_for_previous_is_told) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const DeviceArray<float> x(32);
  EXPECT_DEATH(launch(nullptr, {.blocks = 1, .threads = 32}, forgets_the_previous, x.data()),
               "no thread has called wait_for_previous");
}

TEST(Emulation, missing_wait_for_copies_shows) {
  const DeviceArray<float> in(std::vector<float>(128, 1.0F));
  const DeviceArray<float> out(32);
  launch(nullptr, {.blocks = 1, .threads = 32, .shared_bytes = 512}, reads_too_early, out.data(), in.data());
  EXPECT_THAT(out.values(), testing::Contains(testing::IsNan()));
}

TEST(Emulation, memory_ends) {
  const Setting setting("HEARTMULA_EMULATED_GPU_MEMORY", "1000000");
  const auto some = allocate_device(600000);
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking");
  EXPECT_EQ(free_bytes, 400000U);
  try {
    allocate_device(400001);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    EXPECT_THAT(error.what(), testing::HasSubstr("too little memory"));
  }
}

TEST(Emulation, device_is_lost) {
  const DeviceArray<float> x(32);
  const Setting setting("HEARTMULA_EMULATED_GPU_LOST", "2");
  launch(nullptr, {.blocks = 1, .threads = 32}, add, x.data(), 1.0F);
  try {
    launch(nullptr, {.blocks = 1, .threads = 32}, add, x.data(), 1.0F);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFailure);
    EXPECT_THAT(error.what(), testing::HasSubstr("the GPU was lost"));
  }
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorDevicesUnavailable);
}

TEST(Emulation, there_may_be_no_device) {
  int count = -1;
  {
    const Setting setting("HEARTMULA_EMULATED_GPU", "none");
    EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    EXPECT_EQ(count, 0);
  }
  {
    const Setting setting("HEARTMULA_EMULATED_GPU", "old_driver");
    EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    EXPECT_THROW(check(cudaSetDevice(0), "choosing"), Error);
  }
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace heartmula::cuda

#include "cuda/devices.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "cuda/device_state.h"
#include "cuda/kernels/read_probe.h"
#include "cuda/runtime.h"

namespace heartmula {
namespace {

constexpr int64_t kLeastProbe = int64_t{256} << 20;
constexpr int64_t kCachesRead = 8;  // as many times the second cache as a read goes through
constexpr int kReads = 7;

std::string problem_of(cudaError_t status) {
  try {
    cuda::check(status, "looking for GPUs");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

CudaDevice describe(int index) {
  CudaDevice device;
  device.index = index;
  cudaDeviceProp properties = {};
  device.problem = problem_of(cudaGetDeviceProperties(&properties, index));
  if (!device.problem.empty()) return device;
  device.name = properties.name;
  device.major = properties.major;
  device.minor = properties.minor;
  device.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  device.multiprocessors = properties.multiProcessorCount;
  device.shares_memory = properties.integrated != 0;
  if (device.major < cuda::kLeastMajor) {
    device.problem = fmt::format("its compute capability is {}.{}, and {}.0 is the least", device.major, device.minor,
                                 cuda::kLeastMajor);
    return device;
  }
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  device.problem = problem_of(cudaSetDevice(index));
  if (device.problem.empty()) device.problem = problem_of(cudaMemGetInfo(&free_bytes, &total_bytes));
  device.free_bytes = static_cast<int64_t>(free_bytes);
  return device;
}

}  // namespace

CudaDevices find_cuda_devices() {
  CudaDevices found;
  found.built = true;
  int version = 0;
  if (cudaRuntimeGetVersion(&version) == cudaSuccess && version > 0) found.runtime = cuda::version_text(version);
  version = 0;
  if (cudaDriverGetVersion(&version) == cudaSuccess && version > 0) found.driver = cuda::version_text(version);
  int count = 0;
  found.problem = problem_of(cudaGetDeviceCount(&count));
  if (!found.problem.empty()) return found;
  for (int index = 0; index < count; ++index) found.devices.push_back(describe(index));
  if (count == 0) found.problem = problem_of(cudaErrorNoDevice);
  return found;
}

double measure_cuda_read(int device) {
  const cuda::DeviceState state({.device = device});
  const int64_t bytes = std::max(kLeastProbe, kCachesRead * static_cast<int64_t>(state.properties().l2CacheSize));
  const std::shared_ptr<void> memory = cuda::allocate_device(static_cast<size_t>(bytes));
  const std::shared_ptr<void> result = cuda::allocate_device(sizeof(uint32_t));
  cuda::check(cudaMemsetAsync(memory.get(), 1, static_cast<size_t>(bytes), state.stream()), "measuring the memory");
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  cuda::check(cudaEventCreate(&begin), "measuring the memory");
  cuda::check(cudaEventCreate(&end), "measuring the memory");
  float best = 0;  // ms
  for (int i = 0; i < kReads; ++i) {
    cuda::check(cudaEventRecord(begin, state.stream()), "measuring the memory");
    cuda::read_all(state.stream(), memory.get(), bytes, static_cast<uint32_t*>(result.get()),
                   state.properties().multiProcessorCount);
    cuda::check(cudaEventRecord(end, state.stream()), "measuring the memory");
    state.synchronize("measuring the memory");
    float milliseconds = 0;
    cuda::check(cudaEventElapsedTime(&milliseconds, begin, end), "measuring the memory");
    if (i == 0 || milliseconds < best) best = milliseconds;
  }
  static_cast<void>(cudaEventDestroy(begin));
  static_cast<void>(cudaEventDestroy(end));
  return static_cast<double>(bytes) / (static_cast<double>(std::max(best, 1e-6F)) * 1e-3);
}

}  // namespace heartmula

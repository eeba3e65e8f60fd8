#include "cuda/runtime.h"

#include "base/error.h"

namespace heartmula::cuda {
namespace {

constexpr double kGigabyte = 1e9;

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

[[noreturn]] void no_memory(size_t bytes) {
  size_t free = 0;
  size_t total = 0;
  static_cast<void>(cudaGetLastError());
  static_cast<void>(cudaMemGetInfo(&free, &total));
  throw user_error(
      "the GPU has {:.2f} GB of {:.2f} GB free, and {:.2f} GB more are needed: end other programs on it, shorten the "
      "song, or use --codec_dtype bfloat16, --lazy_load or --codec_device cpu",
      static_cast<double>(free) / kGigabyte, static_cast<double>(total) / kGigabyte,
      static_cast<double>(bytes) / kGigabyte);
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  switch (status) {
    case cudaErrorMemoryAllocation:
      no_memory(0);
    case cudaErrorInsufficientDriver: {
      int driver = 0;
      int runtime = 0;
      static_cast<void>(cudaDriverGetVersion(&driver));
      static_cast<void>(cudaRuntimeGetVersion(&runtime));
      if (driver == 0) throw user_error("there is no NVIDIA driver: install one, or use --device cpu");
      throw user_error("the NVIDIA driver knows CUDA {}, but this program needs {}: update the driver, or use --device cpu",
                       version_text(driver), version_text(runtime));
    }
    case cudaErrorNoDevice:
      throw user_error("there is no NVIDIA GPU: use --device cpu");
    case cudaErrorNoKernelImageForDevice:
      throw user_error("this program has no code for this GPU: build it with -DCMAKE_CUDA_ARCHITECTURES=native");
    default:
      throw failure("the GPU failed while {}: {} ({}); the codes so far are kept", what, cudaGetErrorString(status),
                    cudaGetErrorName(status));
  }
}

std::shared_ptr<void> allocate_device(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) no_memory(bytes);
  check(status, "allocating memory");
  return {memory, [](void* pointer) { static_cast<void>(cudaFree(pointer)); }};
}

std::shared_ptr<void> allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocHost(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    throw user_error("the host has no {:.2f} GB of memory for the GPU to read", static_cast<double>(bytes) / kGigabyte);
  }
  check(status, "allocating host memory");
  return {memory, [](void* pointer) { static_cast<void>(cudaFreeHost(pointer)); }};
}

}  // namespace heartmula::cuda

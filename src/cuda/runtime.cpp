#include "cuda/runtime.h"

#include "base/error.h"

namespace heartmula::cuda {
namespace {

double gigabytes(size_t bytes) {
  return static_cast<double>(bytes) * 1e-9;
}

Error driver_error() {
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return user_error("no NVIDIA driver is loaded: install one, or run on the CPU (--device cpu)");
  return user_error(
      "the NVIDIA driver knows CUDA {} and this program needs {}: install a newer driver, or run on the "
      "CPU (--device cpu)",
      version_text(driver), version_text(runtime / 1000 * 1000));  // a driver serves each minor version
}

Error memory_error(const char* what, size_t bytes) {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  cudaMemGetInfo(&free_bytes, &total_bytes);
  const std::string wanted = bytes == 0 ? "" : fmt::format("{:.2f} GB are needed and ", gigabytes(bytes));
  return user_error(
      "{}: the GPU has too little memory: {}{:.2f} of its {:.2f} GB are free; end other programs that use "
      "it, or run on the CPU (--device cpu)",
      what, wanted, gigabytes(free_bytes), gigabytes(total_bytes));
}

}  // namespace

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report it again
  const std::string cause = fmt::format("{}, {}", cudaGetErrorName(status), cudaGetErrorString(status));
  switch (status) {
    case cudaErrorMemoryAllocation:
      throw memory_error(what, 0);
    case cudaErrorInsufficientDriver:
      throw driver_error();
    case cudaErrorNoDevice:
      throw user_error("there is no NVIDIA GPU: run on the CPU (--device cpu)");
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      throw user_error(
          "this program was not built for this GPU ({}): build it with "
          "-DCMAKE_CUDA_ARCHITECTURES=native, or run on the CPU (--device cpu)",
          cause);
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorUnknown:
      throw failure("{}: the GPU was lost ({}); what was written so far is kept, so the same command can go on with it",
                    what, cause);
    default:
      throw failure("{}: {}", what, cause);
  }
}

std::shared_ptr<void> allocate_device(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw memory_error("allocating on the GPU", bytes);
  }
  check(status, "allocating on the GPU");
  return {memory, [](void* pointer) { cudaFree(pointer); }};
}

std::shared_ptr<void> allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocHost(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw failure("{:.2f} GB of host memory that the GPU can read are needed and could not be had", gigabytes(bytes));
  }
  check(status, "allocating pinned memory");
  return {memory, [](void* pointer) { cudaFreeHost(pointer); }};
}

}  // namespace heartmula::cuda

#include "emulated/device.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <string>
#include <string_view>

namespace heartmula::cuda::emulated {
namespace {

constexpr int kMultiprocessors = 3;  // so that work is seldom shared out evenly
constexpr size_t kDefaultBytes = size_t{8} << 30;

struct ErrorText {
  cudaError_t status;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
};

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::atomic<bool> lost = false;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t presence() {
  const std::string gpu = setting("HEARTMULA_EMULATED_GPU");
  if (gpu == "none") return cudaErrorNoDevice;
  if (gpu == "old_driver" || gpu == "no_driver") return cudaErrorInsufficientDriver;
  return cudaSuccess;
}

}  // namespace

int capability() {
  const std::string gpu = setting("HEARTMULA_EMULATED_GPU");
  const size_t dot = gpu.find('.');
  return dot == std::string::npos ? 90 : 10 * std::atoi(gpu.c_str()) + std::atoi(gpu.c_str() + dot + 1);
}

cudaError_t remember(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

cudaError_t device_status() {
  if (const cudaError_t status = presence(); status != cudaSuccess) return remember(status);
  const bool gone = lost && !setting("HEARTMULA_EMULATED_GPU_LOST").empty();
  return remember(gone ? cudaErrorDevicesUnavailable : cudaSuccess);
}

cudaError_t count_launch() {
  static std::mutex mutex;
  static std::string seen;
  static int64_t launches = 0;
  const std::lock_guard lock(mutex);
  const std::string wanted = setting("HEARTMULA_EMULATED_GPU_LOST");
  if (wanted != seen) {  // another test of the same process
    seen = wanted;
    launches = 0;
    lost = false;
  }
  ++launches;
  if (!wanted.empty() && launches >= std::atoll(wanted.c_str())) lost = true;
  return device_status();
}

size_t device_bytes() {
  const std::string bytes = setting("HEARTMULA_EMULATED_GPU_MEMORY");
  return bytes.empty() ? kDefaultBytes : static_cast<size_t>(std::atoll(bytes.c_str()));
}

size_t most_shared_bytes() {
  const int of = capability();
  const size_t kilobytes = of == 80 || of == 87 ? 163 : of >= 90 && of < 120 ? 227 : 99;
  return kilobytes << 10;
}

}  // namespace heartmula::cuda::emulated

using namespace heartmula::cuda::emulated;

const char* cudaGetErrorString(cudaError_t status) {
  const auto* found = std::find_if(std::begin(kErrors), std::end(kErrors), [&](auto& e) { return e.status == status; });
  return found == std::end(kErrors) ? "unknown error" : found->text;
}

const char* cudaGetErrorName(cudaError_t status) {
  const auto* found = std::find_if(std::begin(kErrors), std::end(kErrors), [&](auto& e) { return e.status == status; });
  return found == std::end(kErrors) ? "cudaErrorUnknown" : found->name;
}

cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  return last_error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  const cudaError_t status = remember(presence());
  *count = status == cudaSuccess ? 1 : 0;
  return status;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (device != 0) return remember(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "Emulated GPU");
  properties->totalGlobalMem = device_bytes();
  properties->sharedMemPerBlock = size_t{48} << 10;
  properties->sharedMemPerBlockOptin = most_shared_bytes();
  properties->sharedMemPerMultiprocessor = most_shared_bytes() + 1024;
  properties->regsPerBlock = 65536;
  properties->warpSize = kLanes;
  properties->maxThreadsPerBlock = kMostThreads;
  properties->major = capability() / 10;
  properties->minor = capability() % 10;
  properties->multiProcessorCount = kMultiprocessors;
  properties->integrated = capability() == 121 ? 1 : 0;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, device); status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = properties.maxThreadsPerBlock;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrIntegrated:
      *value = properties.integrated;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(properties.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrPageableMemoryAccess:
      *value = properties.pageableMemoryAccess;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    default:
      return remember(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  return device == 0 ? cudaSuccess : remember(cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return device_status();
}

cudaError_t cudaDriverGetVersion(int* version) {
  const std::string gpu = setting("HEARTMULA_EMULATED_GPU");
  *version = gpu == "no_driver" ? 0 : gpu == "old_driver" ? 11040 : CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* /*kernel*/, cudaFuncAttribute attribute, int value) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  const bool possible = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 &&
                        static_cast<size_t>(value) <= most_shared_bytes();
  return possible ? cudaSuccess : remember(cudaErrorInvalidValue);
}

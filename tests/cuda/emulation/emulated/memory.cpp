#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "emulated/device.h"
#include "emulated/stream.h"

namespace heartmula::cuda::emulated {
namespace {

constexpr size_t kAlignment = 256;
constexpr int kPoison = 0xFF;  // four or two of them are a NaN

enum class Kind { kPageable, kPinned, kDevice };

struct Allocation {
  size_t bytes = 0;
  Kind kind = Kind::kPageable;
};

std::mutex mutex;
std::map<const char*, Allocation> allocations;
size_t used_bytes = 0;

// The allocation that holds these bytes; pageable memory for any that the device does not know. `whole`: all of them.
Kind kind_of(const void* pointer, size_t bytes, bool* whole) {
  const std::lock_guard lock(mutex);
  const char* first = static_cast<const char*>(pointer);
  *whole = true;
  auto after = allocations.upper_bound(first);
  if (after == allocations.begin()) return Kind::kPageable;
  const auto& [start, allocation] = *--after;
  if (first >= start + allocation.bytes) return Kind::kPageable;
  *whole = first + bytes <= start + allocation.bytes;
  return allocation.kind;
}

cudaError_t add_allocation(void** pointer, size_t bytes, Kind kind) {
  *pointer = nullptr;
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  if (forbids_waiting()) return remember(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  const std::lock_guard lock(mutex);
  if (kind == Kind::kDevice && (bytes > device_bytes() || used_bytes > device_bytes() - bytes)) {
    return remember(cudaErrorMemoryAllocation);
  }
  if (posix_memalign(pointer, kAlignment, bytes) != 0) return remember(cudaErrorMemoryAllocation);
  std::memset(*pointer, kPoison, bytes);
  allocations[static_cast<char*>(*pointer)] = {bytes, kind};
  if (kind == Kind::kDevice) used_bytes += bytes;
  return cudaSuccess;
}

cudaError_t remove_allocation(void* pointer, Kind kind) {
  if (!pointer) return device_status();
  run_everything();
  {
    const std::lock_guard lock(mutex);
    const auto found = allocations.find(static_cast<char*>(pointer));
    if (found == allocations.end() || found->second.kind != kind) return remember(cudaErrorInvalidValue);
    if (kind == Kind::kDevice) used_bytes -= found->second.bytes;
    allocations.erase(found);
  }
  std::free(pointer);
  return device_status();
}

struct Rows {
  char* data;
  size_t pitch;
};

void copy_rows(Rows to, const char* from, size_t from_pitch, size_t width, size_t height) {
  for (size_t row = 0; row < height; ++row) std::memmove(to.data + row * to.pitch, from + row * from_pitch, width);
}

// As the runtime does it: pageable memory is read before the call returns, and written before it returns.
cudaError_t copy(Rows to, const char* from, size_t from_pitch, size_t width, size_t height, cudaMemcpyKind kind,
                 cudaStream_t stream) {
  if (width == 0 || height == 0) return device_status();
  if (to.pitch < width || from_pitch < width) return remember(cudaErrorInvalidValue);
  bool to_whole = true;
  bool from_whole = true;
  const Kind to_kind = kind_of(to.data, (height - 1) * to.pitch + width, &to_whole);
  const Kind from_kind = kind_of(from, (height - 1) * from_pitch + width, &from_whole);
  if (!to_whole || !from_whole) return remember(cudaErrorInvalidValue);
  const bool to_device = to_kind == Kind::kDevice;
  const bool from_device = from_kind == Kind::kDevice;
  const bool possible = kind == cudaMemcpyDefault ||
                        (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
                         from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (!possible) return remember(cudaErrorInvalidValue);

  const bool captured = queue_of(stream).capturing();
  if (from_kind == Kind::kPageable && !captured) {
    std::vector<char> bytes(width * height);
    copy_rows({bytes.data(), width}, from, from_pitch, width, height);
    const cudaError_t status =
        add_work(stream, [=, bytes = std::move(bytes)] { copy_rows(to, bytes.data(), width, width, height); });
    if (status != cudaSuccess) return status;
  } else {
    const cudaError_t status = add_work(stream, [=] { copy_rows(to, from, from_pitch, width, height); });
    if (status != cudaSuccess) return status;
  }
  return to_kind == Kind::kPageable && !captured ? cudaStreamSynchronize(stream) : cudaSuccess;
}

}  // namespace
}  // namespace heartmula::cuda::emulated

using namespace heartmula::cuda::emulated;

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  const std::lock_guard lock(mutex);
  *total_bytes = device_bytes();
  *free_bytes = *total_bytes > used_bytes ? *total_bytes - used_bytes : 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return add_allocation(pointer, bytes, Kind::kDevice);
}
cudaError_t cudaFree(void* pointer) {
  return remove_allocation(pointer, Kind::kDevice);
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned /*flags*/) {
  return add_allocation(pointer, bytes, Kind::kPinned);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes, unsigned flags) {
  return cudaHostAlloc(pointer, bytes, flags);
}
cudaError_t cudaFreeHost(void* pointer) {
  return remove_allocation(pointer, Kind::kPinned);
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned /*flags*/) {
  if (const cudaError_t status = device_status(); status != cudaSuccess) return status;
  const std::lock_guard lock(mutex);
  allocations[static_cast<char*>(pointer)] = {bytes, Kind::kPinned};
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  run_everything();
  const std::lock_guard lock(mutex);
  if (allocations.erase(static_cast<char*>(pointer)) == 0) return remember(cudaErrorInvalidValue);
  return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* host_pointer, unsigned /*flags*/) {
  *device_pointer = host_pointer;
  return device_status();
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy({static_cast<char*>(to), to_pitch}, static_cast<const char*>(from), from_pitch, width, height, kind,
              stream);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height, cudaStream_t stream) {
  if (width == 0 || height == 0) return device_status();
  bool whole = true;
  const Kind kind = kind_of(to, (height - 1) * pitch + width, &whole);
  if (kind == Kind::kPageable || !whole) return remember(cudaErrorInvalidValue);
  return add_work(stream, [=] {
    for (size_t row = 0; row < height; ++row) std::memset(static_cast<char*>(to) + row * pitch, value, width);
  });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return cudaMemset2DAsync(to, bytes, value, bytes, 1, stream);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

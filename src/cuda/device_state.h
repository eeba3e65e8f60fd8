// One device, one stream of work, and the memory that operations share.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/cuda_ops.h"
#include "cuda/runtime.h"

namespace heartmula::cuda {

class DeviceState {
 public:
  /// What a piece of scratch memory is for: those of one kind are not in use at once.
  enum class Scratch : uint8_t { kAttention, kProduct, kBetween, kZeroed };

  explicit DeviceState(const CudaOptions& options);
  ~DeviceState();
  DeviceState(const DeviceState&) = delete;
  DeviceState& operator=(const DeviceState&) = delete;

  /// The stream, with its device chosen for the calling thread.
  cudaStream_t stream() const;
  const cudaDeviceProp& properties() const { return properties_; }
  std::string description() const;
  void synchronize(const char* what) const { check(cudaStreamSynchronize(stream()), what); }

  /// Device memory of at least `bytes`. What it replaces lives on: recorded programs use it.
  void* scratch(Scratch kind, int64_t bytes);
  /// The same, zero when it is new; who uses it leaves it so.
  void* zeroed_scratch(int64_t bytes);

  /// What `work` puts on the stream, to be launched again.
  cudaGraphExec_t record(const std::function<void()>& work);

 private:
  struct Piece {
    void* memory = nullptr;
    int64_t bytes = 0;
  };

  int device_;
  cudaDeviceProp properties_ = {};
  cudaStream_t stream_ = nullptr;
  std::array<Piece, 4> pieces_;
  std::vector<std::shared_ptr<void>> memory_;
};

}  // namespace heartmula::cuda

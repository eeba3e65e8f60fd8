#include "cuda/device_state.h"

#include "base/error.h"

namespace heartmula::cuda {

DeviceState::DeviceState(const CudaOptions& options) : device_(options.device) {
  int count = 0;
  check(cudaGetDeviceCount(&count), "looking for GPUs");
  if (device_ >= count) {
    throw user_error("there is no GPU {}: there are {}, numbered from 0 (heartmula devices)", device_, count);
  }
  check(cudaSetDevice(device_), "choosing a GPU");
  check(cudaGetDeviceProperties(&properties_, device_), "asking a GPU what it is");
  if (properties_.major < kLeastMajor) {
    throw user_error("{} has compute capability {}.{}, and {}.0 is the least: use --device cpu", properties_.name,
                     properties_.major, properties_.minor, kLeastMajor);
  }
  int least = 0;
  int greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "making a stream");
  check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, options.background ? least : greatest),
        "making a stream");
}

DeviceState::~DeviceState() {
  static_cast<void>(cudaStreamSynchronize(stream_));
  static_cast<void>(cudaStreamDestroy(stream_));
}

cudaStream_t DeviceState::stream() const {
  if (device_ != 0) check(cudaSetDevice(device_), "choosing a GPU");
  return stream_;
}

std::string DeviceState::description() const {
  return fmt::format("cuda:{} ({}, compute capability {}.{})", device_, properties_.name, properties_.major,
                     properties_.minor);
}

void* DeviceState::scratch(Scratch kind, int64_t bytes) {
  Piece& piece = pieces_[static_cast<size_t>(kind)];
  if (piece.bytes < bytes) {
    memory_.push_back(allocate_device(static_cast<size_t>(bytes)));
    piece = {memory_.back().get(), bytes};
  }
  return piece.memory;
}

void* DeviceState::zeroed_scratch(int64_t bytes) {
  const bool fits = pieces_[static_cast<size_t>(Scratch::kZeroed)].bytes >= bytes;
  void* memory = scratch(Scratch::kZeroed, bytes);
  if (!fits) {
    // On a stream of its own, for this one may be recording.
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
    check(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), stream), "clearing memory");
    check(cudaStreamSynchronize(stream), "clearing memory");
    check(cudaStreamDestroy(stream), "clearing memory");
  }
  return memory;
}

cudaGraphExec_t DeviceState::record(const std::function<void()>& work) {
  // Relaxed: scratch memory may grow meanwhile.
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "recording a program");
  try {
    work();
  } catch (...) {
    cudaGraph_t broken = nullptr;
    static_cast<void>(cudaStreamEndCapture(stream_, &broken));
    if (broken != nullptr) static_cast<void>(cudaGraphDestroy(broken));
    throw;
  }
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream_, &graph), "recording a program");
  cudaGraphExec_t exec = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&exec, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  check(status, "recording a program");
  return exec;
}

}  // namespace heartmula::cuda

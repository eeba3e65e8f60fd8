// Which NVIDIA GPUs there are, and why one cannot be used. Works in programs without CUDA and on machines without a
// driver: then it says so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace heartmula {

struct CudaDevice {
  int index = 0;
  std::string name;
  int major = 0;  // compute capability
  int minor = 0;
  int64_t memory_bytes = 0;
  int64_t free_bytes = 0;
  int multiprocessors = 0;
  bool shares_memory = false;  // with the host (GB10)
  std::string problem;         // why it cannot be used; empty if it can
};

struct CudaDevices {
  bool built = false;   // whether this program has the GPU's kernels
  std::string driver;   // "13.0": the newest CUDA that the driver knows; empty without one
  std::string runtime;  // "13.0": what the program was built with
  std::string problem;  // why there is none; empty if there is one
  std::vector<CudaDevice> devices;
};

/// Never throws.
CudaDevices find_cuda_devices();

/// Bytes a second of a long read, measured in about 0.1 s. Throws as make_cuda_ops.
double measure_cuda_read(int device);

}  // namespace heartmula

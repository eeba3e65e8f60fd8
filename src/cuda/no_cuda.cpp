// What stands in for cuda/ in a program that is built without it.
#include "base/error.h"
#include "cuda/cuda_ops.h"
#include "cuda/devices.h"

namespace heartmula {
namespace {

constexpr const char* kNotBuilt = "this program was built without CUDA: build one with scripts/build cuda";

}  // namespace

std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& /*options*/) {
  throw user_error("{}", kNotBuilt);
}

CudaDevices find_cuda_devices() {
  CudaDevices found;
  found.problem = kNotBuilt;
  return found;
}

double measure_cuda_read(int /*device*/) {
  throw user_error("{}", kNotBuilt);
}

}  // namespace heartmula

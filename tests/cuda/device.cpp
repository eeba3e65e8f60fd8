// Tests on a real GPU: skipped where there is none.
#include <gtest/gtest.h>

#include "cuda/devices.h"

namespace heartmula {
namespace {

class RealGpu : public testing::Environment {
 public:
  void SetUp() override {
    const CudaDevices found = find_cuda_devices();
    const std::string problem = found.devices.empty() ? found.problem : found.devices.front().problem;
    if (!problem.empty()) GTEST_SKIP() << problem;
  }
};

const testing::Environment* const environment = testing::AddGlobalTestEnvironment(new RealGpu);

}  // namespace
}  // namespace heartmula

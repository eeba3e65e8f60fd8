// The emulated device and its state.
#pragma once

#include <cuda_runtime.h>

namespace heartmula::cuda::emulated {

/// 90 for 9.0.
int capability();
/// What every call returns first: whether there is a device and it has not been lost. Remembers errors.
cudaError_t device_status();
/// Counts a launch, which may lose the device.
cudaError_t count_launch();
/// Remembers it for cudaGetLastError.
cudaError_t remember(cudaError_t status);
size_t device_bytes();
/// Dynamic and static together, in a block.
size_t most_shared_bytes();

}  // namespace heartmula::cuda::emulated

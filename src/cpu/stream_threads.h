// How many threads stream weights fastest: memory has a limit, and more threads than it takes to reach it may read less
// (a Raspberry Pi 5: 13.2 GB/s with two, 11.6 with four).
#pragma once

#include <functional>

#include "cpu/device.h"

namespace heartmula::cpu {

struct StreamSample {
  double bytes_per_second = 0;
  double own_time = 1;  // the share of the time that the threads had a core each
};

/// Tries 1, 2, 4, ... and all `threads` until more of them read less. The fewest that read as much as any; all of them
/// if other programs took part of the machine, for then the samples say nothing.
int find_stream_threads(int threads, const std::function<StreamSample(int)>& measure);

/// Measures products of two rows with `weight_bytes` of bf16 weights. Takes some 50 to 100 ms a number of threads.
int measure_stream_threads(Device& device, int64_t weight_bytes);
/// Measures, if the options ask for it, and sets the device's number.
void find_stream_threads(Device& device, const CpuOptions& options);
/// As many as no cache of this machine holds.
int64_t uncached_bytes(const CpuTopology& topology);

}  // namespace heartmula::cpu

// What the machine can do at best, measured in the process that measures an operation: what it must be held against.
#pragma once

#include <string>

#include "base/thread_pool.h"

namespace heartmula::bench {

/// 1e9 bytes a second that the threads of `pool` read together from a buffer far larger than the caches: the best of
/// several passes.
double read_gb_s(ThreadPool& pool);

/// 1e9 floating-point operations a second of the multiply-add that kernels of `isa` (as in available_isas()) use, two
/// for each lane, with operands in registers: the best of several runs. `bf16`: the instruction for products of bf16
/// with sums in f32, or, where the set has none, that of f32.
double peak_gflop_s(ThreadPool& pool, const std::string& isa, bool bf16);

}  // namespace heartmula::bench

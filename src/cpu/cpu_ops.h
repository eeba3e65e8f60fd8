// The operations on CPUs: one packed copy of each weight, kernels for the instruction set found at run time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace heartmula {

struct CpuOptions {
  // The caller included; 0: HEARTMULA_THREADS in the environment, or one for each usable core or each of `cpus`.
  int threads = 0;
  std::string cpus = {};        // "0-3,8": thread i stays on the i-th; "fastest"; empty: the system places the threads
  bool cpus_backwards = false;  // thread 0 on the last of them: for the second of two devices that share them
  // Measure at the start how many threads stream weights fastest, and take no more than those where rows are few. Takes
  // up to 100 ms for each number tried; not done where threads or cpus are given.
  bool measure_streams = false;
  std::string isa = {};  // one of available_isas(); empty: the environment variable HEARTMULA_ISA, or else the best
  bool lock_weights = false;  // packed matrices stay in memory: packing and adopting throw Error(kUser) if they may not
};

/// The instruction sets that this build has kernels for and this CPU can run, the best last.
std::vector<std::string> available_isas();

/// Throws Error(kUser) for an instruction set that is not available, a number of threads that makes no sense and cpus
/// that do not exist or may not be used.
std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options);

}  // namespace heartmula

// The operations on CPUs: one packed copy of each weight, kernels for the instruction set found at run time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace heartmula {

struct CpuOptions {
  int threads = 0;  // the caller included; 0: one for each usable core
  std::string isa;  // one of available_isas(); empty: the environment variable HEARTMULA_ISA, or else the best
};

/// The instruction sets that this build has kernels for and this CPU can run, the best last.
std::vector<std::string> available_isas();

/// Throws Error(kUser) for an instruction set that is not available and a number of threads that makes no sense.
std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options);

}  // namespace heartmula

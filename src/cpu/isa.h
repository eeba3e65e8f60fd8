// Which instruction sets can run here, and their kernels.
#pragma once

#include <string>

#include "cpu/kernels/kernels.h"

namespace heartmula::cpu {

struct Isa {
  const char* name;
  const Kernels* kernels;
};

/// `name` as in CpuOptions::isa.
Isa choose_isa(const std::string& name);

}  // namespace heartmula::cpu

#include "cpu/isa.h"

#include <cstdlib>
#include <vector>

#include "base/cpu_info.h"
#include "base/error.h"
#include "cpu/cpu_ops.h"

namespace heartmula {
namespace cpu {
namespace {

/// From the plainest to the best.
std::vector<Isa> runnable() {
  [[maybe_unused]] const CpuFeatures& cpu = cpu_info().features;
  std::vector<Isa> isas;
#if defined(HEARTMULA_HAS_BASELINE)
  isas.push_back({"baseline", &baseline::kernels()});
#endif
#if defined(HEARTMULA_HAS_AVX2)
  if (cpu.avx2_fma) isas.push_back({"avx2", &avx2::kernels()});
#endif
#if defined(HEARTMULA_HAS_AVX512)
  if (cpu.avx512) isas.push_back({"avx512", &avx512::kernels()});
#endif
#if defined(HEARTMULA_HAS_AVX512BF16)
  if (cpu.avx512_bf16) isas.push_back({"avx512bf16", &avx512bf16::kernels()});
#endif
#if defined(HEARTMULA_HAS_NEON)
  if (cpu.neon) isas.push_back({"neon", &neon::kernels()});
#endif
#if defined(HEARTMULA_HAS_NEONBF16)
  if (cpu.neon_bf16) isas.push_back({"neonbf16", &neonbf16::kernels()});
#endif
  if (isas.empty()) throw user_error("this program was built without kernels that {} can run", cpu_info().model_name);
  return isas;
}

}  // namespace

Isa choose_isa(const std::string& name) {
  const std::vector<Isa> isas = runnable();
  std::string wanted = name;
  if (wanted.empty()) {
    const char* environment = std::getenv("HEARTMULA_ISA");
    if (environment != nullptr) wanted = environment;
  }
  if (wanted.empty()) return isas.back();
  std::string names;
  for (const Isa& isa : isas) {
    if (wanted == isa.name) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa.name);
  }
  throw user_error("instruction set \"{}\" is not available here; there are: {}", wanted, names);
}

}  // namespace cpu

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const cpu::Isa& isa : cpu::runnable()) names.emplace_back(isa.name);
  return names;
}

}  // namespace heartmula

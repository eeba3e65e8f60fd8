// What the machine offers this process: instructions and memory (its cores: cpu_topology.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace heartmula {

/// Instruction sets that both the processor and the operating system support.
struct CpuFeatures {
  bool avx2_fma = false;
  bool avx512 = false;       // F, BW, DQ, VL and CD
  bool avx512_bf16 = false;  // with avx512
  bool neon = false;
  bool neon_bf16 = false;  // BFDOT and BFMMLA
};

struct CpuInfo {
  CpuFeatures features;
  bool is_intel = false;
  std::string model_name;  // "AMD EPYC 9R14", or "unknown"
};

/// Looked up once.
const CpuInfo& cpu_info();

/// What the system does not say is nothing.
struct MemoryInfo {
  std::optional<uint64_t> total_bytes;      // of the machine, or of the cgroup if it has less
  std::optional<uint64_t> available_bytes;  // that can be had without swapping
};

/// As it is now.
MemoryInfo memory_info();

/// The greatest resident size of this process so far (VmHWM); 0 if the system does not say.
uint64_t peak_memory_bytes();
/// The resident size of this process (VmRSS); 0 if the system does not say.
uint64_t resident_memory_bytes();
/// Lets the peak begin again at what is resident now, where the system can do that.
void reset_peak_memory();

// The parts that read text files take the root of the file system, so that tests can bring their own.
namespace detail {
std::string cpu_model_name(const std::filesystem::path& root);
MemoryInfo memory_info(const std::filesystem::path& root);
uint64_t peak_memory_bytes(const std::filesystem::path& root);
uint64_t resident_memory_bytes(const std::filesystem::path& root);
}  // namespace detail

}  // namespace heartmula

// What this machine can do at most: the limits that every speed is printed beside.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cpu/cpu_ops.h"

namespace heartmula {

/// Measures with the threads and the instruction set of CpuOptions. Each call is one sample of some 20 to 100 ms; on a
/// shared machine take several and their median.
class MachineProbe {
 public:
  /// `buffer_bytes` are allocated and read for each sample of the bandwidth: many times the last cache.
  explicit MachineProbe(const CpuOptions& options, int64_t buffer_bytes = kBufferBytes);
  ~MachineProbe();
  MachineProbe(MachineProbe&&) noexcept;

  /// Of memory, with the threads that stream fastest if the options ask to measure them; each thread reading parts of
  /// one buffer in order.
  double read_bytes_per_second();
  /// Multiply and add count as two operations.
  double f32_flop_per_second();
  /// Products of bf16, sums in f32; without such an instruction that of f32, for bf16 is widened then.
  double bf16_flop_per_second();

  std::string isa() const;
  int threads() const;

  static constexpr int64_t kBufferBytes = int64_t{1} << 29;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heartmula

// What a benchmark measured: the machine, and stages beside their limits.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "checkpoint/profile.h"
#include "cpu/machine_probe.h"
#include "cuda/devices.h"
#include "tensor/dtype.h"

namespace heartmula::bench {

using Clock = std::chrono::steady_clock;
/// Repeated samples of one figure.
struct Samples {
  std::vector<double> values;

  double median() const;
  double min() const;
  double max() const;
};

/// The ceilings of what computes, sampled between the stages of a run.
class Machine {
 public:
  explicit Machine(const CpuOptions& options) : probe_(std::make_unique<MachineProbe>(options)) {}
  explicit Machine(CudaDevice card) : card_(std::move(card)) {}

  /// One more sample of each; of a card, only of what it reads.
  void sample();

  /// "cpu", "cuda:0"
  std::string device() const;
  /// Its name.
  std::string cpu() const;
  std::string isa() const;
  int threads() const { return probe_ ? probe_->threads() : 1; }
  const Samples& read_bytes_s() const { return read_bytes_s_; }
  const Samples& f32_flop_s() const { return f32_flop_s_; }
  const Samples& bf16_flop_s() const { return bf16_flop_s_; }

  /// The medians so far.
  DeviceLimits limits() const;

 private:
  std::unique_ptr<MachineProbe> probe_;  // of CPUs
  CudaDevice card_;                      // without them
  Samples read_bytes_s_;
  Samples f32_flop_s_;
  Samples bf16_flop_s_;
};

/// What must be done at least: weights, keys and values, rows of tables that are read, products and attention that are
/// computed.
struct Work {
  double bytes = 0;
  double flop = 0;
  double operations = 0;  // how many there are

  Work& operator+=(const Work& more);
  Work operator*(double times) const { return {bytes * times, flop * times, operations * times}; }
};

struct Stage {
  std::string name;   // "frame"
  std::string dtype;  // of the weights: "bf16", "f32", or "bf16+f32" where both models take part
  DType arithmetic = DType::kF32;
  std::string what;  // "2 rows, context 512"
  Samples seconds;
  Work work;                 // none where only the time is of interest
  double limit_seconds = 0;  // of a stage put together from others; else it follows from the work
  double music_seconds = 0;  // of a whole song
  std::vector<Stage> parts;  // of a stage that was split

  /// The least time for it, whichever of memory and arithmetic is slower; 0 if neither bounds it, or the peak that
  /// would is not known.
  double limit(const DeviceLimits& limits) const;
};

/// One whose samples and work are still to come.
Stage stage_of(std::string name, DType dtype, std::string what);

/// "bf16" or "f32".
std::string short_name(DType dtype);

}  // namespace heartmula::bench

// How long a song would take on a machine that is only described (`heartmula plan`).
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "bench/measurement.h"
#include "bench/models.h"
#include "checkpoint/memory_plan.h"

namespace heartmula::bench {

/// A machine's limits, and which part of them the stages reach with kernels like its own.
struct MachineDescription {
  std::string name;
  std::string isa;  // as in available_isas(), or "cuda": the description is that of a card
  int64_t threads = 0;
  int64_t memory_threads = 0;  // of them: as many as read memory as fast as all; the others are left for the codec
  double memory_bytes = 0;
  bool shares_memory = false;    // of a card: with the host
  double operation_seconds = 0;  // what each operation of a frame takes beside its work, to wait for another
  DeviceLimits limits;
  std::string source;  // where the figures come from
  /// Of each stage, by the dtype of its weights: its limit over its time, as `bench` prints it.
  std::map<std::string, std::map<std::string, double>> efficiency;

  /// Reads machines/NAME.json (machines/README.md has the fields). Throws Error(kUser) with file and field.
  static MachineDescription read(const std::filesystem::path& path);
  /// Of its memory_bytes.
  int64_t peak_of(const MemoryPlan& plan) const;
  bool is_card() const { return isa == "cuda"; }
  /// Of the arithmetic, what the codec can have beside frames at no cost to them.
  double codec_share() const {
    return is_card() ? 0 : 1 - static_cast<double>(memory_threads) / static_cast<double>(threads);
  }
  /// Throws Error(kUser) if there is no figure for this stage.
  double efficiency_of(const Stage& stage) const;
};

struct PlanOptions : StageChoice {
  int64_t frames = 2250;   // of the song
  bool lazy_load = false;  // one model in memory at a time
};

struct Prediction {
  struct Memory {
    std::string dtype;  // "bf16+f32"
    MemoryPlan plan;
    int64_t peak = 0;  // of the memory that computes
  };

  MachineDescription machine;
  std::vector<Stage> stages;  // as a run of `bench` has them, one sample each
  std::vector<Memory> memory;
};

/// Bytes and arithmetic of each stage are counted by the code that would do them; the machine's limits and the
/// stage's efficiency make them a time. No weights are read.
Prediction predict(const MachineDescription& machine, const PlanOptions& options);

}  // namespace heartmula::bench

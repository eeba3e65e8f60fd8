// Which checkpoint makes a song, and what of the machine it may use.
#pragma once

#include <optional>
#include <string>

#include "tensor/dtype.h"

namespace heartmula {

struct CheckpointSettings {
  std::string model_path;
  std::string version = "3B";
  DType mula_dtype = DType::kBF16;
  DType codec_dtype = DType::kF32;
};

struct MachineSettings {
  bool lazy_load = false;           // one model in memory at a time
  int threads = 0;                  // 0: as many as serve best
  std::string cpus = {};            // "0-3,8" or "fastest": pins the threads; empty: the system places them
  bool mlock = false;               // weights are locked in memory
  std::optional<int> overlap = {};  // threads of the codec beside the frame loop, 0 for none; measured if not given
};

}  // namespace heartmula

// A run of `heartmula bench`: the machine's limits, the stages, and the song that they make together.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/measurement.h"
#include "bench/models.h"
#include "heartmula/cancel.h"

namespace heartmula::bench {

struct Options : StageChoice {
  std::vector<std::string> stages;  // of kStageNames; empty: all
  DeviceWish device = {};           // of every stage
  int threads = 0;
  std::string cpus = {};
  int64_t repeats = 5;       // of each sample; a third of them for stages of many seconds
  std::string program = {};  // the heartmula that stage `open` starts; empty: without that stage
};

extern const std::vector<std::string> kStageNames;

struct Result {
  Machine machine;
  std::vector<Stage> stages;
  uint64_t peak_memory_bytes = 0;
};

/// `note` hears what is being measured. Throws Error(kUser) for a model or a stage that does not exist and where the
/// weights do not fit into memory.
Result run(const Options& options, const std::function<void(const std::string& text)>& note, const CancelToken* cancel);

}  // namespace heartmula::bench

// From the start of a process to its first logits, on a packed file that is mapped and used where it lies.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bench/models.h"
#include "bench/stages.h"

namespace heartmula::bench {

/// What the process that is started does.
struct FirstLogits {
  ModelChoice models;            // for the configuration
  std::filesystem::path folder;  // with the packed weights
  DType dtype = DType::kBF16;
  int threads = 0;
  std::string cpus = {};
  int64_t context = 512;  // of the frames that are timed after the logits
  int64_t repeats = 1;
};

/// Opens the weights, reads a prompt of 50 positions and computes its first logits, then times frames:
/// {"logits_at": seconds of the steady clock, "prefill_seconds": s, "frame_seconds": [s]}.
nlohmann::json run_first_logits(const FirstLogits& work);

/// `store`'s language model is packed by `ops` into a folder beside `scratch` (which need not exist) that is gone in
/// the end. Parts of the stage: cold (the file is not in memory), prefill, and a frame on the mapped file. The stage
/// itself is the warm start. `program` is the heartmula that is started. Throws Error(kFailure) if it fails or the disk
/// is full.
Stage measure_open(const std::filesystem::path& program, const std::filesystem::path& scratch, Ops& ops,
                   ModelSource& source, FirstLogits work, const Note& note, const CancelToken* cancel);

}  // namespace heartmula::bench

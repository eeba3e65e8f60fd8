// A checkpoint with its matrices packed for this machine's kernels: it opens at once, for nothing is copied.
#pragma once

#include <filesystem>
#include <string>

#include "base/progress.h"
#include "checkpoint/models.h"
#include "heartmula/cancel.h"

namespace heartmula {

/// What there is when the work is done.
struct Converted {
  int64_t bytes = 0;  // of weights
  double seconds = 0;
};

/// Writes the folder `save_path`: the checkpoint of `options` with its weights packed, and everything else copied.
///
/// The folder appears when it is whole, and not at all if anything fails or `cancel` is raised (Error(kCancelled)).
/// Memory for one matrix is enough. Progress is that of the stage "convert", in bytes. Throws Error(kUser) if
/// `save_path` is there already, cannot be created, or the checkpoint is broken or packed with less precision than is
/// asked for; Error(kFailure) if the disk has not enough room.
Converted convert_checkpoint(const ModelOptions& options, const std::filesystem::path& save_path,
                             const ProgressSink& progress, const CancelToken* cancel);

}  // namespace heartmula

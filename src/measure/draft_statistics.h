// How guessable a language model's songs are, and how often each drafter would be right (what `heartmula drafts`
// prints): the experiments E1 to E4 of decoding.md 10, without anything that must be trained.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "checkpoint/settings.h"
#include "heartmula/cancel.h"

namespace heartmula {

struct DraftStatisticsOptions {
  CheckpointSettings checkpoint;
  MachineSettings machine = {};
  std::vector<std::string> codes;  // files, each with the request that made it
  int64_t frames = 0;              // of each song, at most; 0 for all
  /// As DraftSettings::parse reads them; these and early exits are asked what they guess after the true frames.
  std::vector<std::string> drafters = {"previous", "bigram", "random", "oracle"};
  std::vector<int64_t> early_exits = {};  // layers; if empty, a quarter, half and three quarters of the backbone's
};

/// Means over all frames of all songs; a chance that nothing told of is null, and lists have a value for each codebook:
///
/// "entropy", "likeliest", "kept": of the distribution that codes are drawn from, in nats; its largest chance; tokens
/// in it. "hotter": at which "temperature" the same logits have a mean entropy of "entropy" nats (null: top-k does not
/// allow it).
///
/// "drafters": "right" is the chance of a drafted frame's code if those before it in the frame are right (null where
/// fewer than 20 drafts came so far), "frames" that of whole frames; "rest" that of the code behind those that are
/// known; "microseconds" of a propose() and a complete(). "speed" is what the bytes promise, beside plain decoding:
/// with the "rest" guessed, and with "frames" drafted, too.
///
/// "resampled_frame": as a drafter's "right" and "frames", of frames that the model samples with the song's noise where
/// the frame before them was drawn with other noise; "same" is whether each code is right, whatever stands before it.
/// Only frames that this "changed" are counted. "resampled_code": row j tells the same of a frame's later codes, where
/// its code j is another one that might have been.
///
/// "learned" is what a drafter file guesses (MachineSettings::drafter), if there is one.
///
/// "running": drafters that learn, in the frame loop: frames "accepted" of those "drafted" a step, "matched" codes of
/// the next one, "right" and "frames" of the first.
///
/// `note` hears which song is read. Throws Error(kUser) for codes without a request, of another language model, or that
/// go on from others; Error(kFailure) if a song is another one when it is made again.
nlohmann::json measure_draft_statistics(const DraftStatisticsOptions& options,
                                        const std::function<void(const std::string&)>& note, const CancelToken* cancel);

/// As tables for people.
std::string describe_draft_statistics(const nlohmann::json& statistics);

}  // namespace heartmula

// What drafters learn from, frame by frame of songs (what `heartmula dump` writes).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/settings.h"
#include "heartmula/cancel.h"

namespace heartmula {

struct DraftDumpOptions {
  CheckpointSettings checkpoint;
  MachineSettings machine = {};
  std::vector<std::string> codes;  // files, each with the request that made it
  std::string folder;
};

/// Writes a safetensors file for each song, FOLDER/NAME.dump.safetensors of NAME.codes.safetensors; one that is there
/// is left alone, so that who was interrupted goes on. Of T frames, S rows of guidance, K = topk:
///
/// "codes", I32 [T, 8]; "hidden", in the weights' dtype, [T, S, D]: the backbone's outputs after its norm that frame t
/// is made from; "tokens", I32, and "logits", F32, [T, 8, K]: the largest guided logits before temperature of each code
/// behind the true ones, in descending order (-1 and -inf where fewer are allowed). Metadata "heartmula_dump": JSON of
/// version, language_model (fingerprint), temperature, topk, cfg_scale, seed, codes.
///
/// `note` hears, before anything is written, how large all will be, and then of each song. Throws Error(kUser) like
/// read_made_song, for two songs of one name, and for a file that is there and is of another song.
void dump_drafts(const DraftDumpOptions& options, const std::function<void(const std::string&)>& note,
                 const CancelToken* cancel);

}  // namespace heartmula

// What is told of a finished song: the "result" of its sidecar.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/memory_plan.h"
#include "song/generator.h"
#include "song/song_output.h"

namespace heartmula {

inline constexpr double kFrameSeconds = 1e-3 * kFrameMs;

/// "level", of new frames, is "G0" if they are those of plain decoding, "G1" if they are others of the same
/// distribution, "G2" if a setting changes the music. `notes`
/// are warnings about this song. `was_alone`: no other was made beside it, so its times beside the machine's limits
/// tell something; measures those if the song took long enough for that to be worth it.
nlohmann::json result_of(const SongSettings& song, const SongOutcome& outcome, const SongOutput& output,
                         const MemoryPlan& plan, const std::optional<StopReason>& stop_reason, double total_seconds,
                         Models& models, const std::vector<std::string>& notes, bool was_alone);

/// Of a song that was cancelled: its first `frames` frames are in the file `codes`.
nlohmann::json cancelled_result(int64_t frames, const std::string& codes, const MemoryPlan& plan, double total_seconds,
                                const Models& models, const std::vector<std::string>& notes);

}  // namespace heartmula

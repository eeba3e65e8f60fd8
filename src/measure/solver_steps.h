// How many steps the codec's flow needs: ways of solving it beside a fine solution (what `heartmula steps` prints).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "checkpoint/settings.h"
#include "codec/heartcodec.h"
#include "heartmula/cancel.h"

namespace heartmula {

struct StepsOptions {
  CheckpointSettings checkpoint;
  MachineSettings machine = {};
  std::string against;             // the folder of the codec that solves finely: a student's teacher; itself if empty
  std::vector<std::string> codes;  // files
  std::vector<std::string> tries;  // "solver=ab2 steps=6 guidance_steps=0,2,4"; a usual list if empty
  int64_t passage_ms = 29'760;     // of each song, from its beginning
  int64_t fine_steps = 50;         // of AB2
  int64_t seed = 1;
  std::filesystem::path abx;  // a folder for a blind test of reference and recommendation, or empty
};

/// The settings that `words` say: names of the codec's settings with or without "codec_", with values:
/// "quality=balanced", "solver=heun steps=4". Throws Error(kUser) that quotes what is wrong.
CodecSettings parse_try(const std::string& words);

/// {"codes": [...], "passage_ms": n, "fine": "...", "rows": [{"try": "...", "evaluations": E, "seconds": s,
/// "log_mel_db": d, "si_sdr_db": d, "levels_changed": part}], "recommended": "..."}: means over the songs, each row
/// beside the fine solution with the same noise and windows; E counts evaluations of the whole transformer a window, a
/// guided one as two. Rows whose "kind" is "yardstick" say what else changes the music as much: other noise, and
/// windows of the fine solution beside the reference's. The recommendation is the cheapest try that is at most as far
/// from the fine solution as the reference's 10 steps; null if those were not tried.
///
/// `note` hears what is being decoded. Throws Error(kUser) for codes without frames and settings that do not go
/// together.
nlohmann::json measure_solver_steps(const StepsOptions& options, const std::function<void(const std::string&)>& note,
                                    const CancelToken* cancel);

/// As a table for people.
std::string describe_solver_steps(const nlohmann::json& steps);

/// Log-mel distance against evaluations, as an SVG picture.
std::string draw_solver_steps(const nlohmann::json& steps);

}  // namespace heartmula

// Compares two files: what `heartmula compare` prints.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace heartmula {

/// Of two audio files or two codes files: {"kind": "audio" or "codes", "a": ..., "b": ..., and the figures of
/// AudioDistances or CodeDistances}. A number that is infinite is null: `si_sdr_db` (plus infinity: b is a times a
/// number) and `loudness_lufs` (minus infinity: silence). What cannot be told is left out.
///
/// `a` is the reference. Takes a thread for each core, or HEARTMULA_THREADS. Throws Error(kUser) for files that are
/// missing, neither audio nor codes, or not to be compared with each other.
nlohmann::json compare_files(const std::filesystem::path& a, const std::filesystem::path& b);

/// The same as a table for people.
std::string describe_comparison(const nlohmann::json& comparison);

}  // namespace heartmula

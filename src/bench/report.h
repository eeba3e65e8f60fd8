// A run as a table for people and as JSON for programs, and two runs side by side.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bench/prediction.h"
#include "bench/run.h"

namespace heartmula::bench {

/// {"machine": {cpu, isa, threads, read_gb_s, f32_gflop_s, bf16_gflop_s}, "stages": [{name, dtype, what, seconds,
/// ...}], "peak_memory_bytes": n}. GB = 1e9 bytes; seconds are medians.
nlohmann::json to_json(const Result& result);
/// Likewise, with the description's name as cpu, "memory": [{dtype, ...}] and the greatest peak as peak memory.
nlohmann::json to_json(const Prediction& prediction);
/// The same for people.
std::string to_table(const nlohmann::json& result);
/// Each stage that both runs have: old and new seconds and their ratio. Throws Error(kUser) if `old` is no such JSON.
std::string to_comparison(const nlohmann::json& old, const nlohmann::json& result, const std::string& old_name);

}  // namespace heartmula::bench

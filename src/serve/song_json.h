// A job as clients see it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "serve/job_store.h"

namespace heartmula {

/// What is estimated of queued songs: how long one takes, and how many are made at once.
struct SongPace {
  double seconds = 0;  // 0: nobody knows yet
  int64_t at_once = 1;
};

enum class SongDetail : uint8_t { kFull, kNews };  // kNews: without what does not change while it is made

nlohmann::json song_json(const Job& job, const SongPace& pace, SongDetail detail = SongDetail::kFull);
nlohmann::json song_json_schema();

}  // namespace heartmula

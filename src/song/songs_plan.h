// What songs take of the memory together, and how many of them at once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "checkpoint/memory_plan.h"

namespace heartmula {

/// So many if nobody says how many, and the memory holds them.
inline constexpr int64_t kSongsAtOnce = 8;

struct SongsPlan {
  MemoryPlan memory;  // of as many songs as are made at once
  AvailableMemory available;
  std::optional<MemorySaving> saving = {};  // that the models have taken, with --memory auto ...
  std::string note = {};                    // ... and what to say of it
};

/// `songs_at_once`: nothing for as many as fit. With --memory auto a plan that does not fit is made smaller.
SongsPlan plan_songs(Models& models, std::span<const SongSize> songs, const std::optional<int64_t>& songs_at_once);

/// Throws Error(kUser) with a suggestion if it does not fit.
void check_plan(Models& models, const SongsPlan& plan, std::span<const SongSize> songs);

}  // namespace heartmula

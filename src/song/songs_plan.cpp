#include "song/songs_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "base/message.h"

namespace heartmula {
namespace {

// Whether the codec takes the same for both.
bool same_for_codec(const SongSize& a, const SongSize& b) {
  return a.codec == b.codec && (a.codec.order == WindowOrder::kSequential || a.frames == b.frames);
}

// What has room for each of them: of the language model the most of everything, of the codec what takes the most, for
// it decodes one song at a time.
SongSize largest(Models& models, std::span<const SongSize> songs) {
  SongSize size = songs.front();
  int64_t codec_bytes = 0;
  std::vector<SongSize> known;  // to the codec
  for (const SongSize& song : songs) {
    size.streams = std::max(size.streams, song.streams);
    size.context = std::max(size.context, song.context);
    size.frames_at_once = std::max(size.frames_at_once, song.frames_at_once);
    if (std::ranges::any_of(known, [&](const SongSize& other) { return same_for_codec(song, other); })) continue;
    known.push_back(song);
  }
  if (known.size() == 1) return size;
  for (const SongSize& song : known) {
    const int64_t bytes = plan_memory(models, {.context = 0, .codec = song.codec, .frames = song.frames}).codec->peak();
    if (bytes <= codec_bytes) continue;
    codec_bytes = bytes;
    size.codec = song.codec;
    size.frames = song.frames;
  }
  return size;
}

// With what the plan counts and loaded models take already.
AvailableMemory available_to(const Models& models, const MemoryPlan& plan) {
  AvailableMemory available = AvailableMemory::now(plan);
  const auto give = [&](const std::optional<StageMemory>& stage, bool is_loaded) {
    if (!stage || !is_loaded) return;
    if (!stage->device.is_cuda) {
      if (available.host) *available.host += static_cast<uint64_t>(stage->weights - stage->mapped);
      return;
    }
    for (CudaDevice& card : available.cuda.devices) {
      if (card.index == stage->device.index) card.free_bytes += stage->weights;
    }
  };
  give(plan.lm, models.has_lm());
  give(plan.codec, models.has_codec());
  return available;
}

// Pages that --kv_memory_mb has room for; 0 if it was not given.
int64_t pages_allowed(const Models& models) {
  const ModelOptions& options = models.options();
  if (!options.machine.kv_memory_mb) return 0;
  const int64_t bytes = *options.machine.kv_memory_mb * 1'000'000;
  return std::max<int64_t>(1, bytes / page_bytes(models.lm_config().backbone, options.checkpoint.mula_dtype));
}

// To songs beside each other: plans are exact to a twentieth, and whoever takes more than there is, is killed.
AvailableMemory available_to_songs(const Models& models, const MemoryPlan& plan) {
  AvailableMemory available = available_to(models, plan);
  if (available.host) *available.host -= *available.host / 20;
  return available;
}

// As many songs as are wished, with fewer pages than they may need if there is no room for more.
MemoryPlan plan_pages(Models& models, SongSize size) {
  MemoryPlan best = plan_memory(models, size);
  const AvailableMemory available = available_to_songs(models, best);
  if (size.songs == 1 || size.context == 0 || fits(best, available)) return best;
  for (int64_t least = 1, most = best.pages; least < most;) {
    size.pages = (least + most) / 2;
    const MemoryPlan plan = plan_memory(models, size);
    if (fits(plan, available)) {
      best = plan;
      least = size.pages + 1;
    } else {
      most = size.pages;
    }
  }
  return best;
}

// The most songs at once that fit, or one.
MemoryPlan plan_most(Models& models, SongSize size, int64_t most) {
  for (size.songs = most;; --size.songs) {
    MemoryPlan plan = plan_memory(models, size);
    if (size.songs == 1 || fits(plan, available_to_songs(models, plan))) return plan;
  }
}

}  // namespace

SongsPlan plan_songs(Models& models, std::span<const SongSize> songs, const std::optional<int64_t>& songs_at_once) {
  SongSize size = largest(models, songs);
  size.pages = pages_allowed(models);
  const int64_t most = std::min(songs_at_once.value_or(kSongsAtOnce), std::ssize(songs));
  const auto plan_again = [&] {
    if (!songs_at_once) return plan_most(models, size, most);
    SongSize wished = size;
    wished.songs = most;
    return plan_pages(models, wished);
  };
  SongsPlan plan = {.memory = plan_again(), .available = {}};
  plan.available = available_to(models, plan.memory);
  if (models.options().machine.memory != MemoryPolicy::kAuto) return plan;
  plan.saving = find_saving(plan.memory, models.options().checkpoint, plan.available);
  if (!plan.saving) return plan;
  plan.note = fmt::format("the plan needs {:.2f} GB, more than there is: made with {}", gigabytes(plan.memory.peak()),
                          plan.saving->flags());
  models.take_less_memory(plan.saving->lazy_load, plan.saving->bf16_codec);
  plan.memory = plan_again();
  return plan;
}

void check_plan(Models& models, const SongsPlan& plan, std::span<const SongSize> songs) {
  if (plan.memory.songs > 1 && !fits(plan.memory, plan.available)) {
    const MemoryPlan fewer = plan_most(models, largest(models, songs), plan.memory.songs - 1);
    if (fits(fewer, plan.available)) {
      throw user_error("not enough memory for {} songs at once: the plan needs {:.2f} GB; use --songs_at_once {}",
                       plan.memory.songs, gigabytes(plan.memory.peak()), fewer.songs);
    }
  }
  check_memory(plan.memory, models.options().checkpoint, plan.available);
}

}  // namespace heartmula

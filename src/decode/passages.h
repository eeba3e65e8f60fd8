// Songs that are longer than the model's context: made passage by passage, each with what it may see of the past.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/names.h"
#include "lm/config.h"
#include "text/prompt.h"

namespace heartmula {

/// Where the context ends, the model reads a prompt and the last frames anew, at the positions that they have then.
/// Both ways change the music that a longer context would make: level G2 of decoding.md.
enum class LongSong : uint8_t {
  kNone,      // songs end where the context does
  kSlide,     // the whole prompt stays, and the last frames follow (StreamingLLM, arXiv:2309.17453)
  kChapters,  // each chapter has lyrics of its own, and the last seconds before it
};
inline constexpr Names<LongSong, 3> kLongSongs = {
    {{{LongSong::kNone, "none"}, {LongSong::kSlide, "slide"}, {LongSong::kChapters, "chapters"}}}};

/// Of the past, for a chapter.
inline constexpr int64_t kChapterPastMs = 10000;

/// Frames that are made without reading anew.
struct Passage {
  const Prompt* prompt = nullptr;  // outlives the song
  int64_t begin = 0;               // its first frame
  int64_t past = 0;                // the first frame that it sees

  bool operator==(const Passage&) const = default;
};

/// A prompt and the frame where it begins.
struct Chapter {
  const Prompt* prompt = nullptr;
  int64_t begin = 0;
};

/// The passages of a song of at most `max_frames` frames in a context of `context` positions. A chapter for which that
/// is too short slides. Throws Error(kUser) if a prompt takes more than half of the context.
std::vector<Passage> passages_of(std::span<const Chapter> chapters, int64_t context, int64_t max_frames);

/// The one that makes frame `number`.
size_t passage_at(std::span<const Passage> passages, int64_t number);

}  // namespace heartmula

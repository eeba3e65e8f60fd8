// What the language model reads for a song: one prompt, or several one after the other.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/models.h"
#include "decode/passages.h"
#include "song/request.h"

namespace heartmula {

struct SongText {
  std::vector<Prompt> prompts;    // of the whole song, then of its chapters if it has some
  std::vector<Passage> passages;  // of a song that is longer than the context; none otherwise
  int64_t context = 0;            // positions that it needs

  const Prompt& prompt() const { return prompts.front(); }
};

/// The whole prompt, for what must be known before the song's length is.
SongText make_song_text(Models& models, const SongSettings& song);

/// The rest, with the song's length. Throws Error(kUser) if the song does not fit into the model's context and
/// `song.long_song` does not say how it goes on there.
void resolve_passages(SongText& text, Models& models, const SongSettings& song);

}  // namespace heartmula

// A song on disk: codes as they come, audio, tags and the JSON beside it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "song/generator.h"
#include "song/request.h"

namespace heartmula {

/// What the caller hears of while a song file is made.
struct SongFileHooks {
  ProgressSink progress;
  std::function<void(const std::string& text)> plan;  // the memory plan, before anything is loaded
  Profile* profile = nullptr;                         // hears of every operation
};

/// Makes the song of `request` and returns what is written beside it: {"request": ..., "result": ...}.
///
/// Everything that can be checked is checked before the work: settings, checkpoint, context, destination, memory.
/// Codes are on disk from the first frame on, beside the song until it is written, for good with request.save_codes.
/// Whatever fails after the first frame, they stay, and the message says where they are and how to go on.
nlohmann::json make_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel);

/// Makes the audio of the codes in request.load_codes again, with the codec alone.
nlohmann::json decode_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel);

}  // namespace heartmula

// A song on disk: codes as they come, audio, tags and the JSON beside it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "song/codes_file.h"
#include "song/generator.h"
#include "song/request.h"

namespace heartmula {

/// What the caller hears of while a song file is made.
struct SongFileHooks {
  ProgressSink progress = {};
  std::function<void(const std::string& text)> plan = {};  // the memory plan, before anything is loaded
  Profile* profile = nullptr;                              // hears of every operation
  /// What make_song_file() would have returned for a song that was cancelled, if frames of it are on the disk.
  std::function<void(const nlohmann::json& json)> cancelled = {};
  AudioSink audio = {};  // what goes into the audio file, too
  /// What request.song.load_codes holds, if it is a stream and was read already.
  const Codes* codes = nullptr;
  bool has_song_lock = false;  // the caller has the OutputLock of request.output.save_path
};

/// Makes the song of `request` and returns what is written beside it: {"request": ..., "result": ...}.
///
/// Everything that can be checked is checked before the work: settings, checkpoint, context, destination, memory.
/// Codes are on disk from the first frame on, beside the song until it is written, for good with
/// request.output.save_codes. Whatever fails after the first frame, they stay, and the message says where they are and
/// how to go on. If the song was cancelled, the JSON says so (stop_reason "cancelled"), and lies where the song would
/// be if nothing is there.
nlohmann::json make_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel);

/// Makes the audio of the codes in request.song.load_codes again, with the codec alone.
nlohmann::json decode_song_file(Request request, const SongFileHooks& hooks, const CancelToken* cancel);

}  // namespace heartmula

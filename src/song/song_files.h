// Many songs on disk, made beside each other.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "heartmula/error.h"
#include "song/codes_file.h"
#include "song/generator.h"
#include "song/request.h"

namespace heartmula {

struct SongFileRequest {
  Request request;
  const Codes* codes = nullptr;  // what request.song.load_codes holds, if it is a stream and was read already
  bool has_song_lock = false;    // the caller has the OutputLock of request.output.save_path
};

/// What became of a song.
struct SongFileResult {
  nlohmann::json json;         // what is written beside it: "request", and "result" if there is one
  std::optional<Error> error;  // of one that was not made; kCancelled if it was interrupted
};

/// What the caller hears of; songs are counted from 0, and may be heard of from two threads at once.
struct SongFilesHooks {
  ProgressSink load = {};                                  // of models
  std::function<void(const std::string& text)> plan = {};  // the memory plan, before anything is loaded
  Profile* profile = nullptr;                              // hears of every operation
  std::function<void(size_t song, std::string_view stage, int64_t done, int64_t total, double seconds)> progress = {};
  std::function<void(size_t song, int64_t frames)> has_frames = {};  // all, and there are so many
  std::function<void(size_t song, std::span<const float> left, std::span<const float> right)> audio = {};
  std::function<void(size_t song, const SongFileResult& result)> over = {};  // the song's last call
};

struct SongFiles {
  std::vector<SongFileResult> songs;  // in the order of the requests
  std::string unfinished;             // the requests of songs that a later run can go on with, or empty
};

/// Makes a song of each request, `songs_at_once` beside each other, or as many as the memory holds; each is, byte for
/// byte, what make_song_file() makes. All are of one checkpoint and machine, those of the first request.
///
/// What can be checked is checked before the work. A song that fails leaves the others alone; its codes stay. From the
/// beginning on the requests of all songs that are not made yet lie on the disk as lines of JSON, with the codes that
/// they go on from: beside the first song ("song-1.flac.unfinished.jsonl"), or in `going_on`, which these songs came
/// from. A run that is killed leaves them, too. Throws what concerns all songs before they are begun: checkpoint,
/// memory.
SongFiles make_song_files(const std::vector<SongFileRequest>& requests, const std::optional<int64_t>& songs_at_once,
                          const std::filesystem::path& going_on, const SongFilesHooks& hooks,
                          const CancelToken* cancel);

}  // namespace heartmula

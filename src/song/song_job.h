// One song on its way to disk: what it is made from, its codes as they come, its audio file, and what is left of it if
// it fails.
#pragma once

#include <chrono>
#include <exception>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/output_lock.h"
#include "song/codes_file.h"
#include "song/generator.h"
#include "song/outputs.h"
#include "song/song_output.h"

namespace heartmula {

/// What a song job is given beside its request.
struct SongJobSettings {
  ProgressSink progress = {};
  AudioSink audio = {};          // what goes into the audio file, too
  Profile* profile = nullptr;    // hears of frames and of the codec's steps
  const Codes* codes = nullptr;  // what request.song.load_codes holds, if it is a stream and was read already
  bool has_song_lock = false;    // the caller has the OutputLock of request.output.save_path
  const CancelToken* cancel = nullptr;
  std::set<std::string>* told = nullptr;  // notes about other songs: what is among them is not said again
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();  // of the work
};

/// Codes that lie on the disk whatever becomes of the song.
struct KeptCodes {
  std::string path;
  int64_t frames = 0;
};

class SongJob {
 public:
  /// Reads what the request names, and checks it; opens no output. `request` is valid and has a seed. `models` must
  /// outlive it. Throws Error(kUser).
  SongJob(Request request, Models& models, SongJobSettings settings);

  /// With every setting resolved.
  const Request& request() const { return request_; }
  const SongText& text() const { return text_; }
  /// What it begins with.
  const std::vector<Frame>& begin() const { return begin_; }
  SongSize size() const;
  /// What the memory asks for, said in `note`.
  void save_memory(const MemorySaving& saving, const std::string& note);

  /// Locks song and JSON. Throws Error(kUser) if they cannot be written where they shall go.
  void open_output();
  /// The codes on the disk, of which it is the only writer. After it every frame is kept.
  void open_codes(const MemoryPlan& plan);
  /// To make it with.
  SongHooks hooks();
  /// Where its frames are on the disk, if there are any.
  std::optional<KeptCodes> kept() const;
  /// The request that goes on with what is kept: the same song.
  Request going_on() const;

  /// The song and its JSON, which is returned, are on the disk.
  nlohmann::json finish(const SongOutcome& outcome);
  /// The song failed: what is kept is whole on the disk. If it was cancelled, the JSON says so, and lies where the song
  /// would be if nothing is there; it is returned.
  std::optional<nlohmann::json> give_up(bool cancelled);
  /// Gives up files and locks: the song is over.
  void close();
  /// Where the song shall go next time: what a pipe or a full device could not take goes into a file.
  std::string next_path() const;

 private:
  void note(const std::string& text);
  void find_codes();
  void load_codes();
  void resolve_length();

  Request request_;
  Models& models_;
  SongJobSettings settings_;
  std::vector<std::string> notes_;
  SongText text_;
  std::vector<Frame> begin_;
  LoadedCodes on_disk_;
  MemoryPlan plan_;
  std::optional<SongOutput> output_;
  std::filesystem::path codes_;
  std::optional<OutputLock> codes_lock_;
  std::optional<CodesWriter> writer_;
  int64_t frames_ = 0;  // in the file of this run
};

/// What a song has failed with, as it is told: "cancelled", "out of memory", or what the exception says.
Error as_error(const std::exception_ptr& exception);
/// The request as the memory lets it be made.
void apply(const MemorySaving& saving, Request& request);
/// The song's settings of the codec become what this codec makes of them.
void resolve_codec(Request& request, const Models& models);
/// What to say of codes that were made by another model; nothing if they were not.
std::optional<std::string> origin_note(const std::string& codes, const std::string& made_by, const char* model,
                                       const ModelIdentity& identity);
/// Frames and steps of the codec go into the profile, too.
ProgressSink progress_with_profile(Profile* profile, const ProgressSink& progress);

}  // namespace heartmula

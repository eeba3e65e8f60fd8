// The songs of a run that are not made yet, as a file of requests: whatever ends the run, another one can go on with
// it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>

#include "base/output_lock.h"
#include "song/request.h"

namespace heartmula {

/// Whether a file of requests is one of these, by its name: "song-1.flac.unfinished.jsonl". A run that goes on with it
/// keeps it up to date.
bool is_unfinished_list(const std::filesystem::path& path);

/// Thread-safe.
class UnfinishedSongs {
 public:
  /// Locks the file, and writes nothing yet. It must not be there, unless the run goes on with it. Throws Error(kUser).
  UnfinishedSongs(std::filesystem::path path, bool goes_on);

  const std::filesystem::path& path() const { return path_; }
  /// A song to be made, before the first write().
  void add(size_t song, const Request& request) { lines_[song] = line_of(request); }
  /// Throws like write_file().
  void write();
  /// The song has frames on the disk, with which this request goes on.
  void has_begun(size_t song, const Request& request);
  void is_made(size_t song);
  /// How many songs are left. The file goes with the last of them, or if there is nothing yet to go on with.
  size_t close();

 private:
  static std::string line_of(const Request& request);
  void save();

  std::filesystem::path path_;
  OutputLock lock_;
  std::mutex mutex_;
  std::map<size_t, std::string> lines_;  // by the song's number
  bool is_worth_it_;                     // there is something to go on with
  bool is_late_ = false;                 // the last change is not on the disk
};

}  // namespace heartmula

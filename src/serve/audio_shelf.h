// The audio of finished songs: kept as FLAC in a folder, or in the database; other formats are made when asked for.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "audio/audio_reader.h"
#include "audio/format.h"
#include "base/file.h"
#include "serve/job_store.h"

namespace heartmula {

class AudioShelf {
 public:
  /// Makes the folders. `in_database`: the folder is only this machine's copy. Throws Error(kUser) if the folder cannot
  /// be written.
  AudioShelf(std::filesystem::path folder, JobStore& store, bool in_database);

  /// Where a song goes while it is made, a new name for each attempt.
  std::filesystem::path unfinished_path(const Lease& lease) const;
  std::filesystem::path live_path(const std::string& id) const;
  /// Takes the whole file from unfinished_path(): from now on the song is there, for all machines. False if the lease
  /// is lost.
  [[nodiscard]] bool put(const Lease& lease);
  /// What an attempt left that came to nothing.
  void discard(const Lease& lease) const;

  /// A message without the names of this machine's folders, which are no client's business.
  std::string without_folder(std::string message) const;
  /// What killed programs left; for a folder that no other process uses.
  void discard_all() const;

  /// Of a song that is done. Throws HttpError(404) if its audio is gone.
  std::shared_ptr<const MappedFile> open(const Job& job, AudioFormat format);
  /// The samples of a song that is done; throws likewise.
  Audio read(const std::string& id);
  /// Its spectrogram, as PNG.
  std::shared_ptr<const MappedFile> open_picture(const Job& job);
  void remove(const std::string& id) const;

 private:
  std::filesystem::path song_path(const std::string& id) const;
  std::filesystem::path converted_path(const std::string& id, const std::string& extension) const;
  std::filesystem::path fetched_song(const std::string& id);
  void forget_old_conversions() const;

  std::filesystem::path folder_;
  JobStore& store_;
  bool in_database_;
  std::mutex converting_;  // one at a time: it takes a core
};

}  // namespace heartmula

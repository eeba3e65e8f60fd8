// What clients do with songs, whatever the routes look like that they call.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "audio/format.h"
#include "serve/audio_shelf.h"
#include "serve/event_hub.h"
#include "serve/job_store.h"
#include "serve/route.h"
#include "serve/song_json.h"
#include "serve/song_order.h"

namespace heartmula {

class Metrics;
class Models;

struct SongLimits {
  JobLimits jobs;
  int64_t max_audio_length_ms = 0;  // of a song
  int64_t songs_at_once = 1;
};

class Songs {
 public:
  /// `defaults` of what an order does not say. All must outlive it. Reads the tokenizer.
  Songs(Models& models, JobStore& store, AudioShelf& shelf, EventHub& hub, const Metrics& metrics, Request defaults,
        const SongLimits& limits);

  const Request& defaults() const { return defaults_; }
  const SongLimits& limits() const { return limits_; }
  SongPace pace() const;

  /// Accepts an order: its songs are in the database when it returns. Throws HttpError: 400 with what is wrong, 404 for
  /// a song to begin with that is not the owner's, 409 for one without frames, 429 when there are too many.
  std::vector<Job> accept(const SongOrder& order, const std::string& owner);
  /// Throws HttpError(404) if there is none, or if it is not this owner's. An owner without a name has them all.
  Job find(const std::string& id, const std::string& owner);
  JobPage list(JobFilter filter, const std::string& owner);
  /// Throws HttpError(400) if the title is no text.
  Job change(const std::string& id, const std::string& owner, const std::optional<std::string>& title,
             std::optional<bool> favourite);
  /// Throws HttpError(409) if the song is over.
  Job cancel(const std::string& id, const std::string& owner);
  /// Throws HttpError(409) while it is being made.
  void remove(const std::string& id, const std::string& owner);

  /// Of a finished song; throws HttpError(409) of another. `download`: to be saved under the song's title.
  Answer audio(const Job& job, AudioFormat format, bool download);
  /// While it is made: from the first sample to the last, as raw s16 samples or WAV.
  Answer stream(const Job& job, AudioFormat format, bool with_header);
  Answer picture(const Job& job);
  Answer codes(const Job& job);
  Answer request(const Job& job);
  /// Server-Sent Events of one song until its end, or of all of them.
  Answer events(const std::optional<Job>& job, const std::string& owner, const std::string& first);
  /// Of all of them, each as `text_of` has it.
  Answer events(const std::string& owner, std::function<std::string(const Job&)> text_of);

  /// Waits until the song is over, or nobody waits any more; its last state.
  Job wait(const Job& job, const StreamSink& sink);
  /// Hands on what is heard of the song, until its end; false if the sink ended it.
  bool listen(const Job& job, const StreamSink& sink);

 private:
  std::vector<Frame> begin_frames(const SongOrder& order, const std::string& owner, std::string& fingerprint,
                                  int64_t& to_ms);
  NewJob new_job(const Request& request) const;

  Models& models_;
  JobStore& store_;
  AudioShelf& shelf_;
  EventHub& hub_;
  const Metrics& metrics_;
  Request defaults_;
  SongLimits limits_;
};

/// Of s16 samples without a header, little endian, which audio/L16 is not.
inline constexpr const char* kRawAudio = "audio/pcm";
/// "audio/flac" and so on.
std::string media_type(AudioFormat format);
/// A name for a file, of what is in the title that file systems and headers take.
std::string file_name(const Job& job, const std::string& extension);

}  // namespace heartmula

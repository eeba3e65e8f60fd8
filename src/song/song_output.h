// The audio file of a song, its levels, and the JSON beside it.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <vector>

#include "audio/audio_writer.h"
#include "audio/fade_out.h"
#include "audio/meters.h"
#include "audio/playback.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/output_lock.h"
#include "codec/wave_decoder.h"
#include "song/request.h"

namespace heartmula {

/// What the audio file of a song says of it. The request has a seed.
Tags song_tags(const Request& request);

class SongOutput {
 public:
  /// No other program may write the song while it lives: it locks it, unless the caller `has_lock`. `heard` gets what
  /// goes into the file. Throws Error(kUser) if song or JSON cannot be written where they shall go. `cancel` may be
  /// null, and must outlive it otherwise. The work began at `start`.
  SongOutput(const Request& request, AudioSink heard, const CancelToken* cancel,
             std::chrono::steady_clock::time_point start, bool has_lock = false);

  bool is_stream() const { return kind_ == OutputKind::kStream; }
  void write(std::span<const float> left, std::span<const float> right) { fade_.push(left, right); }
  /// There are no more samples; fades the last of them out if the request says so and the song ended by its length.
  void end(bool by_length) { fade_.finish(by_length); }
  /// After end(): song and JSON are whole on the disk when it returns.
  void finish(const Request& request, const nlohmann::json& sidecar);
  /// Writes the JSON where the song would be, unless an earlier one is there: that has a sidecar of its own.
  void finish_cancelled(const nlohmann::json& sidecar) const;

  const LevelMeter& meter() const { return meter_; }
  const Playback& playback() const { return playback_; }
  double duration_s() const;

 private:
  void write_faded(std::span<const float> left, std::span<const float> right);
  void write_sidecar(const nlohmann::json& sidecar) const;

  std::filesystem::path path_;
  OutputKind kind_;
  std::vector<OutputLock> locks_;
  AudioSink heard_;
  FadeOut fade_;
  std::optional<AudioWriter> writer_;
  std::chrono::steady_clock::time_point start_;
  Playback playback_;
  LevelMeter meter_;
  int64_t samples_ = 0;
};

}  // namespace heartmula

#include "song/song_output.h"

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "song/outputs.h"
#include "song/settings.h"

namespace heartmula {
namespace fs = std::filesystem;

Tags song_tags(const Request& request) {
  return {.title = request.song.title,
          .artist = "HeartMuLa",
          .genre = request.song.tags,
          .comment = "Made with heartmula.cpp",
          .lyrics = request.song.lyrics,
          .seed = std::to_string(*request.song.seed),
          .request_json = music_json(request).dump()};
}

SongOutput::SongOutput(const Request& request, AudioSink heard, const CancelToken* cancel,
                       std::chrono::steady_clock::time_point start, bool has_lock)
    : path_(request.output.save_path),
      kind_(check_writable(path_)),
      heard_(std::move(heard)),
      fade_(static_cast<size_t>(request.output.fade_out_ms * kSampleRateHz / 1000),
            [this](std::span<const float> left, std::span<const float> right) { write_faded(left, right); }),
      start_(start) {
  if (!is_stream()) {
    if (!has_lock) locks_.emplace_back(path_, "--save_path");
    locks_.emplace_back(sidecar_path(path_), "--save_path");
  }
  const AudioFormat format = request.output.resolved_format();
  if (!is_stream()) check_writable(sidecar_path(path_));
  writer_.emplace(path_, format, resolve_sample_format(format, request.output.sample_format), cancel);
}

void SongOutput::write_faded(std::span<const float> left, std::span<const float> right) {
  meter_.add(left);
  meter_.add(right);
  samples_ += static_cast<int64_t>(left.size());
  writer_->write(left, right);
  playback_.add(seconds_since(start_), static_cast<int64_t>(left.size()));
  if (heard_) heard_(left, right);
}

void SongOutput::finish(const Request& request, const nlohmann::json& sidecar) {
  writer_->finish(request.output.no_metadata ? Tags() : song_tags(request));
  if (!is_stream()) write_sidecar(sidecar);
}

void SongOutput::finish_cancelled(const nlohmann::json& sidecar) const {
  std::error_code ignored;
  if (!is_stream() && !fs::exists(path_, ignored)) write_sidecar(sidecar);
}

double SongOutput::duration_s() const {
  return static_cast<double>(samples_) / static_cast<double>(kSampleRateHz);
}

void SongOutput::write_sidecar(const nlohmann::json& sidecar) const {
  write_file(sidecar_path(path_), sidecar.dump(2) + "\n");
}

}  // namespace heartmula

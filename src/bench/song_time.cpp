#include "bench/song_time.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "audio/playback.h"

namespace heartmula::bench {

SongSeconds song_seconds(const SongShape& song, const StageSeconds& stages, double frame_bytes,
                         double bytes_of_position) {
  const double mean_context = static_cast<double>(song.prompt) + static_cast<double>(song.frames) / 2;
  const double more_bytes = (mean_context - static_cast<double>(song.context)) * bytes_of_position;
  const double frame = stages.frame * (1 + more_bytes / frame_bytes);
  const double evaluations = flow_cost(song.codec.flow) / 2;  // guided ones
  const bool early = song.codec.windows == WindowScheme::kEarly;

  double paused = 0;      // of the frame loop
  double codec_ends = 0;  // with the window before
  const double frames_end = stages.prefill + static_cast<double>(song.frames) * frame;
  Playback playback;
  for (const Window& window : song.windows()) {
    const bool is_first = window.begin == 0;
    const int64_t fresh = std::min(window.end(), song.frames) - window.begin - window.context;
    const double music = static_cast<double>(fresh * kFrameMs) * 1e-3;
    const double work =
        evaluations * stages.flow_step * static_cast<double>(window.codes) / kWindowCodes + music * stages.wave_decoder;
    const double share = is_first && early ? 0 : song.codec_share;
    const double there = stages.prefill + static_cast<double>(std::min(window.end(), song.frames)) * frame + paused;
    const double begin = std::max(there, codec_ends);
    const double beside = share > 0 ? std::max(0.0, frames_end + paused - begin) : 0;  // time beside frames
    codec_ends = beside * share < work ? begin + beside + (work - beside * share) : begin + work / share;
    if (share == 0 && window.end() < song.frames) paused += work;
    playback.add(codec_ends, fresh * kFrameMs * kSampleRate / 1000);
  }
  return {.first_audio = playback.first_audio_s().value_or(0), .total = codec_ends, .waited = playback.waited_s()};
}

double position_bytes(const LmConfig& config, DType dtype) {
  constexpr int64_t kKeysAndValues = 2;
  const TransformerConfig& c = config.backbone;
  return static_cast<double>(kRowsOfSong * kKeysAndValues * c.num_layers * c.kv_dim()) *
         static_cast<double>(dtype_size(dtype));
}

std::vector<Stage> song_stages(const std::vector<Stage>& stages, DType mula, DType codec, const SongShape& song,
                               const LmConfig& config, const DeviceLimits& limits) {
  const auto find = [&stages](const char* name, DType dtype) -> const Stage* {
    const auto found = std::find_if(stages.begin(), stages.end(), [&](const Stage& stage) {
      return stage.name == name && stage.arithmetic == dtype;
    });
    return found == stages.end() ? nullptr : &*found;
  };
  const Stage* frame = find("frame", mula);
  const Stage* prefill = find("prefill", mula);
  const Stage* flow_step = find("flow_step", codec);
  const Stage* wave = find("wave_decoder", codec);
  if (frame == nullptr || prefill == nullptr || flow_step == nullptr || wave == nullptr) return {};

  const auto times = [&](const SongShape& shape, const auto& seconds_of) {
    const StageSeconds each{seconds_of(*frame), seconds_of(*prefill), seconds_of(*flow_step), seconds_of(*wave)};
    return song_seconds(shape, each, frame->work.bytes, position_bytes(config, mula));
  };
  const auto has_limit = [&](const Stage* part) { return part->limit(limits) > 0; };
  const bool is_limited = std::ranges::all_of(std::array{frame, prefill, flow_step, wave}, has_limit);
  const auto together = [&](const char* name, const SongShape& shape, double SongSeconds::*field) {
    Stage stage;
    stage.name = name;
    stage.dtype = frame->dtype + "+" + flow_step->dtype;
    stage.seconds.values.push_back(times(shape, [](const Stage& part) { return part.seconds.median(); }).*field);
    if (is_limited) stage.limit_seconds = times(shape, [&](const Stage& part) { return part.limit(limits); }).*field;
    return stage;
  };
  SongShape in_turn = song;
  in_turn.codec_share = 0;
  const auto waited = [&](const SongShape& shape) {
    const double seconds = times(shape, [](const Stage& part) { return part.seconds.median(); }).waited;
    return fmt::format("a player waits {:.1f} s", seconds);
  };
  std::vector<Stage> songs;
  songs.push_back(together("first_audio", in_turn, &SongSeconds::first_audio));
  songs.back().what = "prompt to the first window's samples, without loading";
  const double music_seconds = static_cast<double>(song.frames * kFrameMs) * 1e-3;
  songs.push_back(together("song", in_turn, &SongSeconds::total));
  songs.back().what = fmt::format("{:.0f} s of music, {} windows, stages one after the other; {}", music_seconds,
                                  song.windows().size(), waited(in_turn));
  songs.back().music_seconds = music_seconds;
  if (song.codec_share > 0) {
    songs.push_back(together("song_overlap", song, &SongSeconds::total));
    songs.back().what = fmt::format("the same, the codec with {:.0f} % of the arithmetic beside the frames; {}",
                                    100 * song.codec_share, waited(song));
    songs.back().music_seconds = music_seconds;
  }
  return songs;
}

}  // namespace heartmula::bench

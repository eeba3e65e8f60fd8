#include "bench/song_time.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace heartmula::bench {

SongShape SongShape::first_window() const {
  SongShape first = *this;
  first.frames = std::min(frames, kWindowCodes);
  return first;
}

SongSeconds song_seconds(const SongShape& song, const StageSeconds& stages, double frame_bytes,
                         double bytes_of_position) {
  const auto frames = static_cast<double>(song.frames);
  const double mean_context = static_cast<double>(song.prompt) + frames / 2;
  const double more_bytes = (mean_context - static_cast<double>(song.context)) * bytes_of_position;
  const double window_seconds = static_cast<double>(kWindowSamples) / static_cast<double>(kSampleRate);
  SongSeconds seconds;
  seconds.prefill = stages.prefill;
  seconds.frames = frames * stages.frame * (1 + more_bytes / frame_bytes);
  seconds.codec = static_cast<double>(song.windows()) *
                  (static_cast<double>(song.codec_steps) * stages.flow_step + window_seconds * stages.wave_decoder);
  return seconds;
}

double position_bytes(const LmConfig& config, DType dtype) {
  constexpr int64_t kRows = 2;  // guidance
  constexpr int64_t kKeysAndValues = 2;
  const TransformerConfig& c = config.backbone;
  return static_cast<double>(kRows * kKeysAndValues * c.num_layers * c.kv_dim()) *
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

  const auto together = [&](const char* name, const SongShape& shape, std::string what) {
    const auto total = [&](const auto& seconds_of) {
      const StageSeconds each{seconds_of(*frame), seconds_of(*prefill), seconds_of(*flow_step), seconds_of(*wave)};
      return song_seconds(shape, each, frame->work.bytes, position_bytes(config, mula)).total();
    };
    Stage stage;
    stage.name = name;
    stage.dtype = frame->dtype + "+" + flow_step->dtype;
    stage.what = std::move(what);
    stage.seconds.values.push_back(total([](const Stage& part) { return part.seconds.median(); }));
    const auto has_limit = [&](const Stage* part) { return part->limit(limits) > 0; };
    if (std::ranges::all_of(std::array{frame, prefill, flow_step, wave}, has_limit)) {
      stage.limit_seconds = total([&](const Stage& part) { return part.limit(limits); });
    }
    return stage;
  };
  Stage first = together("first_audio", song.first_window(), "prompt to the first window's samples, without loading");
  const double music_seconds = static_cast<double>(song.frames * kFrameMs) * 1e-3;
  Stage whole =
      together("song", song,
               fmt::format("{:.0f} s of music, {} windows, stages one after the other", music_seconds, song.windows()));
  whole.music_seconds = music_seconds;
  return {std::move(first), std::move(whole)};
}

}  // namespace heartmula::bench

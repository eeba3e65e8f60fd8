// The codec's half of a song: takes frames, hands on samples.
#pragma once

#include <chrono>
#include <functional>
#include <span>

#include "checkpoint/models.h"
#include "codec/heartcodec.h"
#include "song/generator.h"

namespace heartmula {

class CodecStage {
 public:
  /// All must outlive the stage. The song has at most `most_frames`.
  CodecStage(Models& models, const Request& request, const SongHooks& hooks, int64_t most_frames);

  /// Called between the pieces of the work.
  void set_between_pieces(std::function<void()> call) { between_pieces_ = std::move(call); }
  bool fills_window(int64_t more) const { return decoder_.fills_window(more); }
  /// How many frames the song will have, as far as it is known: for progress only.
  void expect(int64_t frames) { expected_frames_ = frames; }
  void push(std::span<const Frame> frames);
  void finish();
  /// Of work, not of waiting.
  double seconds() const { return seconds_; }
  int64_t dropped_codes() const { return decoder_.dropped_codes(); }

 private:
  using Clock = std::chrono::steady_clock;
  template <typename Work>
  void timed(const Work& work);

  CodecSettings settings_;
  PhiloxCodecNoise noise_;
  SongDecoder decoder_;
  std::function<void()> between_pieces_;
  int64_t expected_frames_;
  Clock::time_point begin_;  // of the work in hand
  double seconds_ = 0;       // of the work before it
};

}  // namespace heartmula

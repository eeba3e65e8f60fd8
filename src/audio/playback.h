// What somebody would have heard who plays a song while it is made.
#pragma once

#include <cstdint>
#include <optional>

namespace heartmula {

class Playback {
 public:
  /// `samples` a channel are there at `seconds`, counted from the song's start as all times are; in order.
  void add(double seconds, int64_t samples);

  /// When the first samples came; nothing if none did.
  std::optional<double> first_audio_s() const { return first_audio_s_; }
  /// Seconds of silence in the middle, with the player started at the first sample and waiting whenever it has played
  /// all that there is.
  double waited_s() const { return waited_s_; }

 private:
  std::optional<double> first_audio_s_;
  double played_out_s_ = 0;  // when all that is there has been played
  double waited_s_ = 0;
};

}  // namespace heartmula

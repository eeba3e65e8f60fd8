// The end of a song that was cut off by its length, made softer.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace heartmula {

/// Passes stereo samples on, later by the length of the fade: that they are the last ones is not known before the end.
class FadeOut {
 public:
  using Sink = std::function<void(std::span<const float> left, std::span<const float> right)>;

  /// `samples` is the length of the fade; 0 passes everything on at once. `sink` gets every sample exactly once.
  FadeOut(size_t samples, Sink sink);

  /// Pieces of any size, the same for both channels.
  void push(std::span<const float> left, std::span<const float> right);
  /// The last `samples` samples, or all of a shorter song: with `fade` times (1 + cos(pi (i + 1) / n)) / 2 for
  /// i = 0 to n - 1, which falls from 1 to 0 without an edge; else as they are.
  void finish(bool fade);

 private:
  size_t samples_;
  Sink sink_;
  std::vector<float> left_;  // held back
  std::vector<float> right_;
};

}  // namespace heartmula

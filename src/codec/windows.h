// How a song is cut into windows, and how their samples are joined (codec.md A3, A7).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/names.h"
#include "heartmula/frame.h"

namespace heartmula {

inline constexpr int64_t kWindowCodes = 372;                                 // 29.76 s
inline constexpr int64_t kWindowHop = 320;                                   // 25.6 s
inline constexpr int64_t kWindowLatents = 2 * kWindowCodes;                  // 25 a second
inline constexpr int64_t kContextLatents = 2 * (kWindowCodes - kWindowHop);  // what a window repeats of the one before
inline constexpr int64_t kLatentSamples = 1920;
inline constexpr int64_t kWindowSamples = kWindowLatents * kLatentSamples;
inline constexpr int64_t kFadeSamples = kContextLatents * kLatentSamples;

/// How a song is cut into windows.
enum class WindowScheme : uint8_t {
  kReference,  // all of 29.76 s, each 25.6 s after the one before
  kEarly,      // six of 7.44 s, then of 14.88 s, each with 1.04 s of the one before: sound soon, and without a break
};

inline constexpr Names<WindowScheme, 2> kWindowSchemes = {
    {{{WindowScheme::kReference, "reference"}, {WindowScheme::kEarly, "early"}}}};

/// In which order windows pass through the flow.
enum class WindowOrder : uint8_t {
  kSequential,  // each continues the one before
  kParallel,    // all at once and twice: first without context, then with what the first sweep gave as context
  kBlended,     // all at once, without context; the latents that two windows have fade from one to the other
};

inline constexpr Names<WindowOrder, 3> kWindowOrders = {{{{WindowOrder::kSequential, "sequential"},
                                                          {WindowOrder::kParallel, "parallel"},
                                                          {WindowOrder::kBlended, "blended"}}}};

/// In codes.
struct Window {
  int64_t begin = 0;  // its first, in the song
  int64_t codes = 0;
  int64_t context = 0;  // of them: what it repeats of the window before

  int64_t end() const { return begin + codes; }
  int64_t latents() const { return 2 * codes; }
  int64_t context_latents() const { return 2 * context; }
  bool operator==(const Window&) const = default;
};

/// Codes of the scheme's longest window.
int64_t longest_window(WindowScheme scheme);
/// Of a song that is long enough.
Window window_at(WindowScheme scheme, int64_t index);
/// Those of a song of `frames` >= 1 codes. The last one reaches beyond the song's end, unless it is `short_last`: then
/// it has what is left.
std::vector<Window> song_windows(WindowScheme scheme, bool short_last, int64_t frames);

struct WindowPlan {
  int64_t windows = 0;
  int64_t samples = 0;  // of the finished song, a channel
};

/// As the reference cuts a song of `frames` >= 1 codes: songs are padded with their own beginning to whole windows, but
/// where frames = 104 mod 320 (424, 744, ...) nothing is padded and the last 4.16 s are lost.
WindowPlan reference_windows(int64_t frames);

/// Finished samples of both channels, in order.
using AudioSink = std::function<void(std::span<const float> left, std::span<const float> right)>;

/// Joins windows as the reference does: the last 4.16 s of one fade linearly into the first 4.16 s of the next.
class WindowJoiner {
 public:
  explicit WindowJoiner(AudioSink sink) : sink_(std::move(sink)) {}

  /// The song ends after `samples` a channel. Needed before a window that reaches past its end.
  void set_end(int64_t samples) { end_ = samples; }
  /// Takes the next window, kWindowSamples a channel, and hands on what no later window can change.
  void add(std::span<const float> left, std::span<const float> right);
  /// Hands on the rest.
  void finish();

 private:
  void hand_on(std::span<const float> left, std::span<const float> right);

  AudioSink sink_;
  int64_t handed_on_ = 0;
  int64_t end_ = std::numeric_limits<int64_t>::max();
  std::vector<float> tail_[2];  // the last kFadeSamples, not final yet
};

}  // namespace heartmula

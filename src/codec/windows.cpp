#include "codec/windows.h"

#include <algorithm>

namespace heartmula {

namespace {

constexpr int64_t kShort = 93;
constexpr int64_t kShortWindows = 6;
constexpr int64_t kEarlyContext = 13;

}  // namespace

int64_t longest_window(WindowScheme scheme) {
  return scheme == WindowScheme::kEarly ? 2 * kShort : kWindowCodes;
}

Window window_at(WindowScheme scheme, int64_t index) {
  if (scheme == WindowScheme::kReference) {
    return {index * kWindowHop, kWindowCodes, index == 0 ? 0 : kWindowCodes - kWindowHop};
  }
  const int64_t context = index == 0 ? 0 : kEarlyContext;
  if (index < kShortWindows) return {index * (kShort - kEarlyContext), kShort, context};
  const int64_t first_long = kShortWindows * (kShort - kEarlyContext);
  const int64_t codes = longest_window(scheme);
  return {first_long + (index - kShortWindows) * (codes - kEarlyContext), codes, context};
}

std::vector<Window> song_windows(WindowScheme scheme, bool short_last, int64_t frames) {
  std::vector<Window> windows;
  while (windows.empty() || windows.back().end() < frames) {
    windows.push_back(window_at(scheme, static_cast<int64_t>(windows.size())));
  }
  if (short_last) windows.back().codes = frames - windows.back().begin;
  return windows;
}

WindowPlan reference_windows(int64_t frames) {
  constexpr int64_t kOverlap = kWindowCodes - kWindowHop;
  int64_t padded = std::max(frames, kWindowCodes);
  if ((padded - 2 * kOverlap) % kWindowHop > 0) {
    padded = (padded - kOverlap + kWindowHop - 1) / kWindowHop * kWindowHop + kOverlap;
  }
  WindowPlan plan;
  plan.windows = (padded - kWindowHop) / kWindowHop + 1;
  // In double as the reference does it: for 657 lengths up to 8192 frames this is one sample short of 3840 a frame.
  const auto target = static_cast<int64_t>(static_cast<double>(frames) / 12.5 * 48000.0);
  plan.samples = std::min(target, kWindowSamples + (plan.windows - 1) * (kWindowSamples - kFadeSamples));
  return plan;
}

void WindowJoiner::add(std::span<const float> left, std::span<const float> right) {
  const std::span<const float> window[2] = {left, right};
  const bool first = tail_[0].empty();
  for (int channel = 0; channel < 2 && !first; ++channel) {
    std::vector<float>& tail = tail_[channel];
    for (size_t i = 0; i < tail.size(); ++i) {
      const double weight = static_cast<double>(i) / static_cast<double>(kFadeSamples - 1);
      tail[i] = static_cast<float>(tail[i] * (1.0 - weight) + window[channel][i] * weight);
    }
  }
  if (!first) hand_on(tail_[0], tail_[1]);
  const size_t begin = first ? 0 : static_cast<size_t>(kFadeSamples);
  const size_t end = static_cast<size_t>(kWindowSamples - kFadeSamples);
  hand_on(left.subspan(begin, end - begin), right.subspan(begin, end - begin));
  for (int channel = 0; channel < 2; ++channel) {
    const std::span<const float> tail = window[channel].last(static_cast<size_t>(kFadeSamples));
    tail_[channel].assign(tail.begin(), tail.end());
  }
}

void WindowJoiner::finish() {
  hand_on(tail_[0], tail_[1]);
}

void WindowJoiner::hand_on(std::span<const float> left, std::span<const float> right) {
  const auto count = static_cast<size_t>(std::clamp<int64_t>(end_ - handed_on_, 0, static_cast<int64_t>(left.size())));
  if (count == 0) return;
  sink_(left.first(count), right.first(count));
  handed_on_ += static_cast<int64_t>(count);
}

}  // namespace heartmula

#include "audio/fade_out.h"

#include <cmath>
#include <cstddef>
#include <numbers>
#include <utility>

namespace heartmula {

FadeOut::FadeOut(size_t samples, Sink sink) : samples_(samples), sink_(std::move(sink)) {}

void FadeOut::push(std::span<const float> left, std::span<const float> right) {
  if (samples_ == 0) {
    sink_(left, right);
    return;
  }
  left_.insert(left_.end(), left.begin(), left.end());
  right_.insert(right_.end(), right.begin(), right.end());
  if (left_.size() <= samples_) return;
  const size_t over = left_.size() - samples_;
  sink_(std::span(left_).first(over), std::span(right_).first(over));
  left_.erase(left_.begin(), left_.begin() + static_cast<std::ptrdiff_t>(over));
  right_.erase(right_.begin(), right_.begin() + static_cast<std::ptrdiff_t>(over));
}

void FadeOut::finish(bool fade) {
  const size_t count = left_.size();
  for (size_t i = 0; fade && i < count; ++i) {
    const double phase = std::numbers::pi * static_cast<double>(i + 1) / static_cast<double>(count);
    const auto gain = static_cast<float>(0.5 * (1 + std::cos(phase)));
    left_[i] *= gain;
    right_[i] *= gain;
  }
  if (count > 0) sink_(left_, right_);
  left_.clear();
  right_.clear();
}

}  // namespace heartmula

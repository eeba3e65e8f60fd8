#include "decode/draft_controller.h"

#include <algorithm>
#include <cmath>

namespace heartmula {
namespace {

// A pass of the depth decoder, of a frame's time: 642 of 10532 MB (decoding.md 1.1).
constexpr double kPassShare = 0.061;
constexpr double kWorthTrying = 1.02;
constexpr double kWorthKeeping = 1.01;
// Of the time so far, for trials.
constexpr double kMostLost = 0.01;
constexpr int64_t kWindow = 8;         // drafted steps that are judged together
constexpr int64_t kWindowsToLook = 8;  // then plain decoding is measured again
constexpr int64_t kPlainLook = 3;      // with as many steps
constexpr int64_t kLongestWait = 1024;
constexpr double kForget = 1.0 / 64;
constexpr double kLeastUse = 0.15;  // the chance that a further draft is reached

}  // namespace

int64_t DraftController::frames() const {
  if (always_) return most_;
  if (!drafting_ && !may_try()) return 0;
  const double right = whole_frames();
  int64_t frames = 1;
  while (frames < most_ && std::pow(right, static_cast<double>(frames)) > kLeastUse) ++frames;
  return std::min(frames, most_);
}

bool DraftController::may_try() const {
  if (most_ == 0 || plain_ < wait_ || counts_.seconds_lost > kMostLost * elapsed_) return false;
  return !may_watch_ || promised_gain() > kWorthTrying;
}

// By the bytes that drafts of one frame save or cost: a draft whose first m codes are right costs one pass and makes m
// of the seven passes needless; one that is wholly right gives a frame more.
double DraftController::promised_gain() const {
  double time = 1;
  for (int64_t m = 1; m < kCodebooks; ++m) {
    time -= matched_[static_cast<size_t>(m)] / guesses_ * kPassShare * static_cast<double>(m - 1);
  }
  const double right = whole_frames();
  time += right * kPassShare;
  return (1 + right) / time;
}

void DraftController::compared(int64_t matched) {
  for (double& count : matched_) count *= 1 - kForget;
  guesses_ = guesses_ * (1 - kForget) + 1;
  matched_[static_cast<size_t>(matched)] += 1;
  if (drafting_ || always_) return;
  ++counts_.watched;
  counts_.watched_codes += matched;
}

void DraftController::begin_plain(int64_t wait) {
  drafting_ = false;
  plain_ = 0;
  wait_ = wait;
  steps_ = steps_frames_ = 0;
  steps_seconds_ = 0;
}

void DraftController::plain_step(double seconds, int64_t songs) {
  ++counts_.plain_steps;
  ++plain_;
  elapsed_ += seconds;
  const double of_song = seconds / static_cast<double>(songs);
  plain_seconds_ = plain_seconds_ == 0 ? of_song : plain_seconds_ + (of_song - plain_seconds_) / 8;
}

void DraftController::drafted_step(double seconds, int64_t songs, int64_t drafts, int64_t accepted) {
  ++counts_.drafted_steps;
  counts_.drafted_frames += drafts;
  counts_.accepted_frames += accepted;
  counts_.frames += songs + accepted;
  elapsed_ += seconds;
  if (always_) return;
  if (!drafting_) {
    drafting_ = true;
    ++counts_.trials;
    windows_ = 0;
  }
  ++steps_;
  steps_seconds_ += seconds;
  steps_frames_ += songs + accepted;
  const double plain = plain_seconds_ * static_cast<double>(steps_frames_);
  const double lost = steps_seconds_ - plain;
  const bool is_over = steps_ == kWindow || (lost > 0 && counts_.seconds_lost + lost > kMostLost * elapsed_);
  if (!is_over) return;
  if (plain < kWorthKeeping * steps_seconds_) {
    counts_.seconds_lost += std::max(0.0, lost);
    begin_plain(next_wait_);
    next_wait_ = std::min(2 * next_wait_, kLongestWait);
    return;
  }
  ++windows_;
  next_wait_ = 64;
  steps_ = steps_frames_ = 0;
  steps_seconds_ = 0;
  if (windows_ % kWindowsToLook == 0) begin_plain(kPlainLook);
}

}  // namespace heartmula

#include "decode/draft_controller.h"

#include <algorithm>
#include <cmath>

namespace heartmula {
namespace {

// A pass of the depth decoder, of a frame's time: 642 of 10532 MB (decoding.md 1.1).
constexpr double kPassShare = 0.061;
// A row more in every product, at a guess: trials measure it.
constexpr double kDraftShare = 0.03;
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

std::optional<int64_t> DraftController::frames() const {
  if (always_) return most_;
  if (!drafting_ && !may_try()) return std::nullopt;
  if (may_watch_ && promised_gain(true) < promised_gain(false)) return 0;
  const double right = whole_frames();
  int64_t frames = std::min<int64_t>(1, most_);
  while (frames < most_ && std::pow(right, static_cast<double>(frames)) > kLeastUse) ++frames;
  return frames;
}

bool DraftController::may_try() const {
  if (plain_ < wait_ || counts_.seconds_lost > kMostLost * elapsed_) return false;
  return !may_watch_ || std::max(promised_gain(true), promised_gain(false)) > kWorthTrying;
}

// By the bytes that guesses save or cost. Of the seven passes for a frame's rest one is left, and one for each guess
// but the last that is wrong. A draft of the next frame gives a frame more if it is right, for a little time either
// way.
double DraftController::promised_gain(bool drafts) const {
  const double wrong = 1 - rest_right_ / rests_ / (kCodebooks - 1);
  const double passes = 1 + wrong * (kCodebooks - 2);
  const double time = 1 - kPassShare * (kCodebooks - 1 - passes);
  return drafts ? (1 + whole_frames()) / (time + kDraftShare) : 1 / time;
}

void DraftController::compared(int64_t matched) {
  drafts_ = drafts_ * (1 - kForget) + 1;
  whole_ = whole_ * (1 - kForget) + (matched == kCodebooks ? 1 : 0);
  if (drafting_ || always_) return;
  ++counts_.watched;
  counts_.watched_codes += matched;
}

void DraftController::compared_rest(int64_t right) {
  rests_ = rests_ * (1 - kForget) + 1;
  rest_right_ = rest_right_ * (1 - kForget) + static_cast<double>(right);
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

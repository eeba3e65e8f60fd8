#include "decode/draft_controller.h"

#include <algorithm>
#include <cmath>
#include <limits>

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
constexpr int64_t kFirstWait = 100;  // plain steps: a trial must be a small part of the time so far
constexpr int64_t kWait = 64;        // after a trial that did not pay; then twice as many, and so on
constexpr int64_t kLongestWait = 1024;
constexpr int64_t kWindow = 8;         // drafted steps that are judged together
constexpr int64_t kWindowsToLook = 8;  // then plain decoding is measured again
constexpr int64_t kPlainLook = 3;      // with as many steps
constexpr double kForget = 1.0 / 64;
constexpr double kLeastUse = 0.15;  // the chance that a further draft is reached

}  // namespace

double DraftCounts::weights_read(const FrameWeights& weights) const {
  const auto of = [](int64_t times, int64_t elements) {
    return static_cast<double>(times) * static_cast<double>(elements);
  };
  const double drafted =
      of(drafted_steps, weights.backbone) + of(depth_passes, weights.depth_pass) + of(heads, weights.head);
  const auto plain = static_cast<double>(weights.plain());
  const double frames_made = static_cast<double>(plain_steps) + plain_frames;
  return frames_made > 0 ? (static_cast<double>(plain_steps) * plain + drafted) / (frames_made * plain) : 1;
}

DraftController DraftController::always(int64_t frames) {
  DraftController controller({{.least_frames = frames}}, frames);
  controller.always_ = true;
  return controller;
}

DraftController::DraftController(const std::vector<DraftArm>& arms, int64_t most) : most_(most) {
  for (const DraftArm& arm : arms) arms_.push_back({.kind = arm, .ready_at = kFirstWait, .wait = kWait});
}

std::optional<DraftChoice> DraftController::choose(int64_t songs) const {
  if (always_) return DraftChoice{0, most_};
  if (songs != plain_songs_ || measured_ < kPlainLook - 1) return std::nullopt;  // there is nothing to compare with
  if (drafting_) return DraftChoice{*drafting_, frames_of(arms_[*drafting_])};
  std::optional<DraftChoice> best;
  double best_gain = 0;
  for (size_t i = 0; i < arms_.size(); ++i) {
    if (!may_try(arms_[i])) continue;
    const double gain = arms_[i].gain > 0 ? arms_[i].gain : std::numeric_limits<double>::max();  // new ones first
    if (gain <= best_gain) continue;
    best = DraftChoice{i, frames_of(arms_[i])};
    best_gain = gain;
  }
  return best;
}

bool DraftController::may_try(const Arm& arm) const {
  if (counts_.plain_steps < arm.ready_at || counts_.seconds_lost > kMostLost * elapsed_) return false;
  return !arm.kind.is_watched || std::max(arm.promised_gain(true), arm.promised_gain(false)) > kWorthTrying;
}

int64_t DraftController::frames_of(const Arm& arm) const {
  if (arm.kind.is_watched && arm.promised_gain(true) < arm.promised_gain(false)) return arm.kind.least_frames;
  int64_t frames = std::max<int64_t>(1, arm.kind.least_frames);
  while (frames < most_ && std::pow(arm.whole_frames(), static_cast<double>(frames)) > kLeastUse) ++frames;
  return std::min({frames, most_, arm.kind.most_frames});
}

// By the bytes that guesses save or cost. Of the seven passes for a frame's rest one is left, and one for each guess
// but the last that is wrong. A draft of the next frame gives a frame more if it is right, for a little time either
// way.
double DraftController::Arm::promised_gain(bool with_drafts) const {
  const double wrong = rests > 0 ? 1 - rest_right / rests / (kCodebooks - 1) : 1;
  const double passes = 1 + wrong * (kCodebooks - 2);
  const double time = 1 - kPassShare * (kCodebooks - 1 - passes);
  return with_drafts ? (1 + whole_frames()) / (time + kDraftShare) : 1 / time;
}

void DraftController::compared(size_t arm, bool is_right) {
  Arm& a = arms_[arm];
  a.drafts = a.drafts * (1 - kForget) + 1;
  a.right = a.right * (1 - kForget) + (is_right ? 1 : 0);
}

void DraftController::compared_rest(size_t arm, int64_t right) {
  Arm& a = arms_[arm];
  a.rests = a.rests * (1 - kForget) + 1;
  a.rest_right = a.rest_right * (1 - kForget) + static_cast<double>(right);
}

void DraftController::plain_step(double seconds, int64_t songs) {
  ++counts_.plain_steps;
  elapsed_ += seconds;
  if (songs != plain_songs_) {
    drafting_.reset();
    plain_songs_ = songs;
    measured_ = 0;
  }
  plain_seconds_ = measured_ == 0 ? seconds : plain_seconds_ + (seconds - plain_seconds_) / 8;
  ++measured_;
}

void DraftController::drafted_step(const DraftChoice& choice, double seconds, const DraftedStep& step) {
  const int64_t frames = step.songs + step.accepted;
  const double plain_frames = static_cast<double>(frames) / static_cast<double>(step.songs);
  ++counts_.drafted_steps;
  counts_.drafted_frames += step.drafts;
  counts_.accepted_frames += step.accepted;
  counts_.frames += frames;
  counts_.plain_frames += plain_frames;
  counts_.depth_passes += step.depth_passes;
  counts_.heads += step.heads;
  counts_.guessed_codes += step.guessed_codes;
  elapsed_ += seconds;
  if (always_) return;
  if (!drafting_) {
    drafting_ = choice.arm;
    ++counts_.trials;
    steps_ = steps_frames_ = windows_ = 0;
    steps_seconds_ = 0;
  }
  ++steps_;
  steps_seconds_ += seconds;
  steps_frames_ += frames;
  const double plain = plain_seconds_ * static_cast<double>(steps_frames_) / static_cast<double>(step.songs);
  const double lost = steps_seconds_ - plain;
  const bool is_dear = steps_ > 1 && lost > 0 && counts_.seconds_lost + lost > kMostLost * elapsed_;
  if (steps_ == kWindow || is_dear) {
    judge(arms_[choice.arm], plain);
  }
}

// A window of drafted steps made as many frames as plain decoding in so many seconds.
void DraftController::judge(Arm& arm, double plain_seconds) {
  arm.gain = plain_seconds / steps_seconds_;
  if (arm.gain < kWorthKeeping) {
    counts_.seconds_lost += std::max(0.0, steps_seconds_ - plain_seconds);
    drafting_.reset();
    arm.ready_at = counts_.plain_steps + arm.wait;
    arm.wait = std::min(2 * arm.wait, kLongestWait);
    return;
  }
  arm.wait = kWait;
  if (++windows_ % kWindowsToLook == 0) {
    drafting_.reset();
    arm.ready_at = counts_.plain_steps + kPlainLook;
  }
  steps_ = steps_frames_ = 0;
  steps_seconds_ = 0;
}

}  // namespace heartmula

#include "song/overlap.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/error.h"

namespace heartmula {
namespace {

constexpr size_t kFrames = 7;         // of a measurement, after the first two
constexpr size_t kSettling = 2;       // frames in which caches and threads find their new places
constexpr double kWorthwhile = 1.03;  // less may be noise
using Clock = std::chrono::steady_clock;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

OverlapSearch::OverlapSearch(std::optional<int> wish, int threads) : threads_(threads) {
  if (wish || threads < 2) {
    current_ = wish.value_or(0);
    decided_ = true;
  }
}

void OverlapSearch::add_frame(double seconds, bool beside_codec) {
  if (decided_ || beside_codec != (current_ > 0)) return;
  if (current_ == 0) {
    alone_.push_back(seconds);
    if (alone_.size() > kSettling + kFrames) alone_.erase(alone_.begin());  // the latest: a longer context is slower
    if (alone_.size() == kSettling + kFrames) try_next(0);
    return;
  }
  beside_.push_back(seconds);
  if (beside_.size() < kSettling + kFrames) return;
  const std::vector<double> settled(beside_.begin() + kSettling, beside_.end());
  const double frames = median(alone_) / median(settled);
  // The codec's arithmetic grows with its threads.
  const double codec = static_cast<double>(current_) / static_cast<double>(threads_);
  beside_.clear();
  try_next(frames + codec);
}

void OverlapSearch::try_next(double gain) {
  const bool better = gain > best_gain_;
  if (better) {
    best_gain_ = gain;
    best_ = current_;
  }
  const int next = std::max(1, 2 * current_);
  if ((current_ == 0 || better) && next < threads_) {
    current_ = next;
    return;
  }
  decided_ = true;
  if (best_gain_ < kWorthwhile) {
    best_ = 0;
    best_gain_ = 1;
  }
  current_ = best_;
}

Overlap::Overlap(std::optional<int> wish, Ops& lm, Ops& codec, bool share_threads, bool soon)
    : lm_(lm),
      codec_(codec),
      share_threads_(share_threads),
      soon_(soon && wish != 0),
      search_(wish, std::min(lm.threads(), codec.threads())) {
  if (!share_threads) {
    if (wish.value_or(0) > 0) {
      throw user_error("--overlap {}: the stages share no threads, for one of them is on a card; auto and off are left",
                       *wish);
    }
    waits_ = wish.has_value();
    return;
  }
  if (wish && *wish > 0 && *wish >= std::min(lm.threads(), codec.threads())) {
    throw user_error("--overlap {}: the frame loop needs at least one of the {} threads", *wish, lm.threads());
  }
}

Overlap::~Overlap() {
  lm_.use_threads(lm_.threads());
  codec_.use_threads(codec_.threads());
}

void Overlap::share() {
  if (ended_) {
    works_ = wants_;
    codec_.use_threads(codec_.threads());
  } else if (share_threads_) {
    share_cores();
  } else {
    works_ = wants_ && !waits_;
    // The card's side needs a core to be told what comes next.
    codec_.use_threads(std::max(1, codec_.threads() - 1));
    lm_.use_threads(std::max(1, lm_.threads() - 1));
  }
  changed_.notify_all();
}

void Overlap::share_cores() {
  const int codec_threads = soon_ && windows_ == 0 ? 0 : search_.codec_threads();
  takes_turns_ = soon_ && codec_threads == 0;
  works_ = wants_ && (codec_threads > 0 || takes_turns_);
  if (works_) codec_.use_threads(takes_turns_ ? codec_.threads() : codec_threads);
  lm_.use_threads(works_ && !takes_turns_ ? lm_.threads() - codec_threads : lm_.threads());
}

double Overlap::frame_done(std::optional<double> seconds, const CancelToken* cancel) {
  std::unique_lock lock(mutex_);
  // A frame during part of which the codec worked tells nothing.
  if (seconds && share_threads_ && beside_ == works_) search_.add_frame(*seconds, works_);
  share();
  const Clock::time_point begin = Clock::now();
  while (works_ && takes_turns_ && (cancel == nullptr || !cancel->cancelled()))
    changed_.wait_for(lock, kCancelInterval);
  beside_ = works_;
  return seconds_since(begin);
}

void Overlap::frames_ended() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  share();
}

void Overlap::frames_begin() {
  const std::lock_guard lock(mutex_);
  ended_ = false;
  share();
}

void Overlap::begin_piece(const CancelToken& cancel) {
  std::unique_lock lock(mutex_);
  wants_ = true;
  share();
  while (!works_) {
    changed_.wait_for(lock, kCancelInterval);
    if (cancel.cancelled()) throw Error(ErrorKind::kCancelled, "cancelled");
  }
}

void Overlap::idle() {
  const std::lock_guard lock(mutex_);
  if (wants_) ++windows_;
  wants_ = false;
  share();
}

std::optional<int> Overlap::codec_threads() const {
  if (!share_threads_) return waits_ ? std::optional(0) : std::nullopt;
  const std::lock_guard lock(mutex_);
  return search_.codec_threads();
}

double Overlap::gain() const {
  const std::lock_guard lock(mutex_);
  return search_.gain();
}

}  // namespace heartmula

// How the machine is shared while the codec decodes finished windows beside the frame loop.
//
// Making frames is bound by memory, the codec by arithmetic, so both together may waste less than one after the other.
// Whether they do is measured: a frame alone, then a frame beside the codec for every split that is tried.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "heartmula/cancel.h"
#include "ops/ops.h"

namespace heartmula {

/// How often somebody who waits looks at the song's cancel token.
constexpr std::chrono::milliseconds kCancelInterval{50};

/// Finds how many of the threads the codec should have beside the frame loop; 0 means that it waits for the last frame.
class OverlapSearch {
 public:
  /// `wish`: that many threads, or nothing for the best.
  OverlapSearch(std::optional<int> wish, int threads);

  /// The codec's share while it has a window to decode. Not before some frames were made alone where it is searched.
  int codec_threads() const { return current_; }
  /// Takes the time of a frame, and whether the codec was at work beside all of it.
  void add_frame(double seconds, bool beside_codec);
  /// Whether the search is over; its choice is codec_threads().
  bool decided() const { return decided_; }
  /// Frames and codec together with this choice, in units of one after the other: above 1 the song is shorter.
  double gain() const { return best_gain_; }

 private:
  void try_next(double gain);

  int threads_;
  int current_ = 0;
  bool decided_ = false;
  std::vector<double> alone_;
  std::vector<double> beside_;
  int best_ = 0;
  double best_gain_ = 1;
};

/// Shares the threads of the two devices between two threads of work: the frame loop's and the codec's.
class Overlap {
 public:
  /// `share_threads`: both compute on the same cores. Else nothing is searched, and both just work, unless the wish is
  /// 0. `soon`: a window is decoded as soon as its frames are there, the first one with all threads, and every one so
  /// where sharing does not pay; meanwhile there are no frames. Throws Error(kUser) for a wish that cannot be.
  Overlap(std::optional<int> wish, Ops& lm, Ops& codec, bool share_threads = true, bool soon = false);
  /// Gives both devices all their threads again.
  ~Overlap();

  // The frame loop's side.
  /// Waits while the codec has all threads; gives how long, in seconds. A frame that is not like the others, and so not
  /// to be compared with them, has no `seconds`.
  double frame_done(std::optional<double> seconds, const CancelToken* cancel = nullptr);
  /// There will be no more frames: the codec has the machine for itself.
  void frames_ended();
  /// There are frames again.
  void frames_begin();

  // The codec's side, between two pieces of its work.
  /// Waits while the codec has no share. Throws Error(kCancelled) if `cancel` is raised meanwhile.
  void begin_piece(const CancelToken& cancel);
  /// The codec has nothing to do until there are more frames.
  void idle();

  /// Of the shared ones; 0: the codec waits for the last frame; nothing where none are shared.
  std::optional<int> codec_threads() const;
  double gain() const;

 private:
  void share();
  void share_cores();

  Ops& lm_;
  Ops& codec_;
  bool share_threads_;
  bool soon_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  OverlapSearch search_;
  bool waits_ = false;        // the codec, until the last frame, although it has a device of its own
  bool wants_ = false;        // the codec has something to do
  bool works_ = false;        // and does it
  bool beside_ = false;       // it did during all of the frame in hand
  bool takes_turns_ = false;  // the one or the other works, with all threads
  int64_t windows_ = 0;       // that the codec has made
  bool ended_ = false;
};

}  // namespace heartmula

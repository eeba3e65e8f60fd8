// The codec on a thread of its own, beside the frame loop.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "heartmula/cancel.h"
#include "song/codec_stage.h"
#include "song/overlap.h"

namespace heartmula {

/// What the codec makes of a song.
struct CodecJob {
  const Request* request = nullptr;  // must outlive the thread, like hooks and cancel
  const SongHooks* hooks = nullptr;
  const CancelToken* cancel = nullptr;  // of this song alone, or none
  /// The job's last call ...
  std::function<void(double seconds, int64_t dropped_codes)> decoded;
  /// ... or this one.
  std::function<void(std::exception_ptr)> failed;
};

/// Decodes one song at a time: one whose frames are all there, or else, window by window, the oldest.
class CodecThread {
 public:
  /// All must outlive it. Throws Error(kFailure) if there can be no thread.
  CodecThread(Models& models, Overlap& overlap, const CancelToken* cancel);
  /// Ends the thread at once if it was not joined; jobs may then have no last call.
  ~CodecThread();
  CodecThread(const CodecThread&) = delete;
  CodecThread& operator=(const CodecThread&) = delete;

  /// A song that begins with these frames; gives its number. Throws if there is no room for the first one's buffers.
  size_t enter(CodecJob job, std::span<const Frame> begin);
  /// Throws what the song's decoding has failed with: fail() is to follow.
  void push(size_t song, const Frame& frame);
  /// The song has no more than these.
  void end(size_t number, int64_t frames);
  /// There will be no more frames: the job ends with this error.
  void fail(size_t number, const std::exception_ptr& error);
  /// Waits until all songs that have entered are over; passes raised tokens on to the thread.
  void join();

 private:
  struct Song {
    CodecJob job;
    int64_t first_window = 0;  // frames
    CancelToken stop;
    std::vector<Frame> queue;
    std::optional<int64_t> frames;  // all of them; not known as long as there are more to come
    std::exception_ptr failure;     // of its frames
    std::exception_ptr error;       // of its decoding
    bool over = false;
  };

  std::unique_ptr<CodecStage> make_stage(Song& song);
  void run();
  Song* next();
  void choose();
  void decode(Song& song);
  std::vector<Frame> take(Song& song, bool& is_all);
  void pass_on_cancel();

  Models& models_;
  Overlap& overlap_;
  const CancelToken* cancel_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Song> songs_;             // in the order of entering; never moved
  size_t oldest_ = 0;                  // all before it are over
  Song* in_hand_ = nullptr;            // of the thread
  Song* staged_ = nullptr;             // what stage_ is for
  std::unique_ptr<CodecStage> stage_;  // the thread's, once a song is in hand
  bool closed_ = false;                // no other song enters
  bool done_ = false;
  std::thread thread_;
};

}  // namespace heartmula

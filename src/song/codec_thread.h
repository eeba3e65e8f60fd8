// The codec on a thread of its own, beside the frame loop.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "heartmula/cancel.h"
#include "song/codec_stage.h"
#include "song/overlap.h"

namespace heartmula {

class CodecThread {
 public:
  /// All must outlive it. Throws Error(kFailure) if there can be no thread.
  CodecThread(CodecStage& stage, Ops& ops, Overlap& overlap, const CancelToken* cancel);
  /// Ends the thread at once if it was not joined.
  ~CodecThread();
  CodecThread(const CodecThread&) = delete;
  CodecThread& operator=(const CodecThread&) = delete;

  /// Throws what the thread has failed with.
  void push(const Frame& frame);
  /// Waits until all is decoded; passes a raised token on to the thread.
  void join(int64_t frames);

 private:
  void close(int64_t frames);
  void run();

  CodecStage& stage_;
  Ops& ops_;
  Overlap& overlap_;
  const CancelToken* cancel_;
  CancelToken stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Frame> queue_;
  bool closed_ = false;
  bool done_ = false;
  std::optional<int64_t> final_frames_;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace heartmula

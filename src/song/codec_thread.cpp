#include "song/codec_thread.h"

#include <chrono>
#include <system_error>

#include "base/error.h"

namespace heartmula {

CodecThread::CodecThread(CodecStage& stage, Ops& ops, Overlap& overlap, const CancelToken* cancel)
    : stage_(stage), ops_(ops), overlap_(overlap), cancel_(cancel) {
  stage.set_between_pieces([this] {
    if (cancel_ != nullptr && cancel_->cancelled()) stop_.cancel();  // at once, without waiting for join() to see it
    overlap_.begin_piece(stop_);
  });
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    throw failure("cannot start a thread: {}; close other programs, or use --lazy_load true", error.code().message());
  }
}

CodecThread::~CodecThread() {
  if (thread_.joinable()) {
    stop_.cancel();
    close(0);
    thread_.join();
  }
  ops_.set_cancel_token(cancel_);
}

void CodecThread::push(const Frame& frame) {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
  queue_.push_back(frame);
  changed_.notify_all();
}

void CodecThread::join(int64_t frames) {
  close(frames);
  std::unique_lock lock(mutex_);
  while (!done_) {
    changed_.wait_for(lock, std::chrono::milliseconds(50));
    if (cancel_ != nullptr && cancel_->cancelled()) stop_.cancel();
  }
  lock.unlock();
  thread_.join();
  if (error_) std::rethrow_exception(error_);
}

void CodecThread::close(int64_t frames) {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  if (frames > 0) final_frames_ = frames;
  changed_.notify_all();
}

void CodecThread::run() {
  ops_.set_cancel_token(&stop_);
  try {
    for (bool closed = false; !closed;) {
      std::vector<Frame> frames;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
        frames.swap(queue_);
        closed = closed_;
        if (final_frames_) stage_.expect(*final_frames_);
      }
      if (stage_.fills_window(static_cast<int64_t>(frames.size()))) overlap_.begin_piece(stop_);
      stage_.push(frames);
      if (!closed) overlap_.idle();
    }
    overlap_.begin_piece(stop_);
    stage_.finish();
  } catch (...) {
    overlap_.idle();
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

}  // namespace heartmula

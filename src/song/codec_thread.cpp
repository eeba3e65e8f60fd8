#include "song/codec_thread.h"

#include <system_error>
#include <utility>

#include "base/error.h"

namespace heartmula {
namespace {

Error cancelled_error() {
  return Error(ErrorKind::kCancelled, "cancelled");
}

// Frames after which the codec has something to do, before it is known how many there are.
int64_t first_window(const CodecSettings& settings) {
  return settings.order == WindowOrder::kSequential ? window_at(settings.windows, 0).end() : INT64_MAX;
}

}  // namespace

CodecThread::CodecThread(Models& models, Overlap& overlap, const CancelToken* cancel)
    : models_(models), overlap_(overlap), cancel_(cancel) {
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    throw failure("cannot start a thread: {}; close other programs, or use --lazy_load true", error.code().message());
  }
}

CodecThread::~CodecThread() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      for (Song& song : songs_) {
        song.failure = std::make_exception_ptr(cancelled_error());
        song.stop.cancel();
        if (&song != in_hand_) song.over = true;
      }
      changed_.notify_all();
    }
    thread_.join();
  }
  models_.codec_ops().set_cancel_token(cancel_);
}

std::unique_ptr<CodecStage> CodecThread::make_stage(Song& song) {
  auto stage = std::make_unique<CodecStage>(models_, *song.job.request, *song.job.hooks,
                                            song.job.request->song.frame_loop(0).max_frames());
  stage->set_between_pieces([this, &song] {
    // At once, without waiting for join() to see it.
    const bool cancelled = cancel_ != nullptr && cancel_->cancelled();
    if (cancelled || (song.job.cancel != nullptr && song.job.cancel->cancelled())) song.stop.cancel();
    overlap_.begin_piece(song.stop);
  });
  return stage;
}

size_t CodecThread::enter(CodecJob job, std::span<const Frame> begin) {
  const std::lock_guard lock(mutex_);
  Song& song = songs_.emplace_back();
  song.job = std::move(job);
  song.first_window = first_window(song.job.request->codec);
  song.queue.assign(begin.begin(), begin.end());
  if (songs_.size() == 1) {  // what does not fit is known before the first frame
    try {
      stage_ = make_stage(song);
      staged_ = &song;
    } catch (...) {
      song.over = true;
      throw;
    }
  }
  changed_.notify_all();
  return songs_.size() - 1;
}

void CodecThread::push(size_t song, const Frame& frame) {
  const std::lock_guard lock(mutex_);
  if (songs_[song].error) std::rethrow_exception(songs_[song].error);
  songs_[song].queue.push_back(frame);
  changed_.notify_all();
}

void CodecThread::end(size_t number, int64_t frames) {
  Song& song = songs_[number];
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    song.frames = frames;
    error = song.error;
    song.over = error != nullptr;
    changed_.notify_all();
  }
  if (error) song.job.failed(error);
}

void CodecThread::fail(size_t number, const std::exception_ptr& error) {
  Song& song = songs_[number];
  {
    const std::lock_guard lock(mutex_);
    song.failure = error;
    song.stop.cancel();
    changed_.notify_all();
    if (in_hand_ == &song) return;  // the thread ends it
    song.over = true;
  }
  song.job.failed(error);
}

void CodecThread::join() {
  std::unique_lock lock(mutex_);
  closed_ = true;
  changed_.notify_all();
  while (!done_) {
    changed_.wait_for(lock, kCancelInterval);
    pass_on_cancel();
  }
  lock.unlock();
  thread_.join();
}

void CodecThread::pass_on_cancel() {
  const bool all = cancel_ != nullptr && cancel_->cancelled();
  for (size_t i = oldest_; i < songs_.size(); ++i) {
    Song& song = songs_[i];
    if (song.over) continue;
    if (all || (song.job.cancel != nullptr && song.job.cancel->cancelled())) song.stop.cancel();
  }
}

void CodecThread::run() {
  while (Song* song = next()) decode(*song);
  const std::lock_guard lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

// The song to be decoded, or ended; null if no other will come.
CodecThread::Song* CodecThread::next() {
  std::unique_lock lock(mutex_);
  const auto is_last = [this] { return closed_ && oldest_ == songs_.size(); };
  changed_.wait(lock, [&] {
    choose();
    return in_hand_ != nullptr || is_last();
  });
  return in_hand_;
}

void CodecThread::choose() {
  while (oldest_ < songs_.size() && songs_[oldest_].over) ++oldest_;
  in_hand_ = nullptr;
  Song* streamed = nullptr;
  for (size_t i = oldest_; i < songs_.size(); ++i) {
    Song& song = songs_[i];
    if (song.over) continue;
    if (song.frames) {
      in_hand_ = &song;
      return;
    }
    const bool has_window = static_cast<int64_t>(song.queue.size()) >= song.first_window;
    if (streamed == nullptr && !song.error && has_window) streamed = &song;
  }
  in_hand_ = streamed;
}

// What has come of it since the last call.
std::vector<Frame> CodecThread::take(Song& song, bool& is_all) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return song.failure || song.frames || !song.queue.empty(); });
  if (song.failure || song.stop.cancelled()) throw cancelled_error();
  if (!stage_ || staged_ != &song) {
    stage_.reset();
    stage_ = make_stage(song);
    staged_ = &song;
  }
  is_all = song.frames.has_value();
  if (is_all) stage_->expect(*song.frames);
  return std::exchange(song.queue, {});
}

void CodecThread::decode(Song& song) {
  models_.codec_ops().set_cancel_token(&song.stop);
  std::exception_ptr error;
  double seconds = 0;
  int64_t dropped_codes = 0;
  try {
    for (bool is_all = false; !is_all;) {
      const std::vector<Frame> frames = take(song, is_all);
      if (stage_->fills_window(static_cast<int64_t>(frames.size()))) overlap_.begin_piece(song.stop);
      stage_->push(frames);
      if (!is_all) overlap_.idle();
    }
    overlap_.begin_piece(song.stop);
    stage_->finish();
    seconds = stage_->seconds();
    dropped_codes = stage_->dropped_codes();
  } catch (...) {
    error = std::current_exception();
  }
  overlap_.idle();
  stage_.reset();
  {
    const std::lock_guard lock(mutex_);
    in_hand_ = nullptr;
    song.error = error;
    if (song.failure) error = song.failure;
    song.over = !error || song.frames || song.failure;
    if (!song.over) return;  // push() throws the error, and the frames' end brings the last call
  }
  if (error) {
    song.job.failed(error);
  } else {
    song.job.decoded(seconds, dropped_codes);
  }
}

}  // namespace heartmula

#include "serve/served_song.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "song/settings.h"
#include "song/song_job.h"
#include "song/song_result.h"
#include "text/prompt.h"

namespace heartmula {
namespace {

constexpr int64_t kPeakSamples = 480;  // 10 ms
constexpr size_t kMostPeaks = 600;     // of a song's picture
constexpr double kPeakScale = 255;

int64_t unix_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

// The greatest of each of at most kMostPeaks equal parts, as bytes.
nlohmann::json waveform_of(const std::vector<float>& peaks) {
  nlohmann::json waveform = nlohmann::json::array();
  const size_t count = std::min(kMostPeaks, peaks.size());
  for (size_t i = 0; i < count; ++i) {
    const auto begin = peaks.begin() + static_cast<std::ptrdiff_t>(i * peaks.size() / count);
    const auto end = peaks.begin() + static_cast<std::ptrdiff_t>((i + 1) * peaks.size() / count);
    const float peak = std::min(*std::max_element(begin, end), 1.0f);
    waveform.push_back(static_cast<int>(std::lround(kPeakScale * static_cast<double>(peak))));
  }
  return waveform;
}

}  // namespace

ServedSong::ServedSong(SongHouse& house, const Job& job, Lease lease)
    : house_(house),
      lease_(std::move(lease)),
      created_ms_(job.created_ms),
      request_(parse_request(job.request, "the stored request").request),
      begin_(house.store.frames(job.id)),
      fingerprint_(house.models.lm_identity().fingerprint) {
  if (!begin_.empty() && job.fingerprint != fingerprint_) {
    throw user_error("its first {} frames were made with another language model ({}) than this server's ({})",
                     begin_.size(), job.fingerprint, fingerprint_);
  }
  request_.checkpoint = house.models.options().checkpoint;
  request_.machine = house.models.options().machine;
  request_.output.save_path = house.shelf.unfinished_path(lease_).string();
  request_.output.format.reset();
  text_ = make_song_text(house.models, request_.song);
  resolve_passages(text_, house.models, request_.song);
  check_codes(house.models.lm_config(), begin_, "its first frames");
  resolve_codec(request_, house.models);
  saved_ = static_cast<int64_t>(begin_.size());
  frames_left_ = job.max_frames - saved_;
  progress_ = {.stage = "frames", .done = saved_, .total = job.max_frames, .seconds_left = {}, .audio_seconds = 0};
  work_ = {.request = &request_,
           .text = &text_,
           .begin = begin_,
           .cancel = &cancel_,
           .hooks = {.progress = [this](std::string_view stage, int64_t done, int64_t total,
                                        double seconds) { take_progress(stage, done, total, seconds); },
                     .frame = [this](int64_t, const Frame& frame) { take_frame(frame); },
                     .audio = [this](std::span<const float> left,
                                     std::span<const float> right) { output_->write(left, right); },
                     .has_frames = [this](int64_t) { take_end_of_frames(); },
                     .codec_begins = [this] { begin_codec(); },
                     .rests = [this](bool rests) { change_rest(rests); }},
           .enters = [this] { open(); },
           .made = [this](const SongOutcome& outcome) { finish(outcome); },
           .failed = [this](const std::exception_ptr& error) { end(error); }};
}

void ServedSong::stop(StopCause cause) {
  StopCause none = StopCause::kNone;
  cause_.compare_exchange_strong(none, cause);
  cancel_.cancel();
}

void ServedSong::open() {
  output_.emplace(
      request_, [this](std::span<const float> left, std::span<const float> right) { take_audio(left, right); },
      &cancel_, start_);
  live_.emplace(house_.shelf.live_path(lease_.id));
}

void ServedSong::take_frame(const Frame& frame) {
  const std::lock_guard lock(mutex_);
  unsaved_.push_back(frame);
  has_news_ = true;
}

void ServedSong::take_audio(std::span<const float> left, std::span<const float> right) {
  if (samples_ == 0) {
    house_.metrics.add_first_audio(1e-3 * static_cast<double>(unix_ms() - created_ms_));
  }
  live_->write(left, right);
  for (size_t i = 0; i < left.size(); ++i) {
    peak_ = std::max({peak_, std::abs(left[i]), std::abs(right[i])});
    if (++samples_ % kPeakSamples != 0) continue;
    peaks_.push_back(std::exchange(peak_, 0.0f));
  }
  const std::lock_guard lock(mutex_);
  progress_.audio_seconds = static_cast<double>(samples_) / kSampleRateHz;
  has_news_ = true;
}

void ServedSong::take_progress(std::string_view stage, int64_t done, int64_t total, double seconds) {
  const std::lock_guard lock(mutex_);
  if (stage == kResting) return;  // change_rest() knows
  if (stage == "frames") {
    const int64_t made = done - static_cast<int64_t>(begin_.size());
    frames_left_ = total - done;
    if (made > 0) frame_seconds_ = seconds / static_cast<double>(made);
    progress_.done = done;
  } else {
    codec_done_ = done;
    codec_parts_ = total;
    if (done > 0) codec_seconds_ = seconds / static_cast<double>(done);
  }
  update_progress();
}

void ServedSong::take_end_of_frames() {
  const std::lock_guard lock(mutex_);
  frames_left_ = 0;
  update_progress();
}

void ServedSong::change_rest(bool rests) {
  const std::lock_guard lock(mutex_);
  progress_.stage = rests ? kResting : "frames";
  has_news_ = true;
}

void ServedSong::begin_codec() {
  {
    const std::lock_guard lock(mutex_);
    codec_has_begun_ = true;
    update_progress();
  }
  try {
    save();  // at once: if the codec dies of this song, the database knows of which
  } catch (const std::exception& error) {
    spdlog::error("song {}: {}", lease_.id, error.what());
  }
}

// With mutex_ locked. The codec decodes windows beside the frames; it has the word when those are made.
void ServedSong::update_progress() {
  has_news_ = true;
  if (frames_left_ == 0) {
    progress_.stage = codec_has_begun_ ? "codec" : kWaitingForCodec;
    progress_.done = codec_done_;
    progress_.total = codec_parts_;
  }
  if (frame_seconds_ > 0) {
    progress_.seconds_left = frame_seconds_ * static_cast<double>(frames_left_) +
                             codec_seconds_ * static_cast<double>(codec_parts_ - codec_done_);
  }
}

void ServedSong::save() {
  const std::lock_guard one_at_a_time(saving_);
  std::unique_lock lock(mutex_);
  if (!std::exchange(has_news_, false)) return;
  try {
    save_frames(lock);
    const JobProgress progress = progress_;
    lock.unlock();
    if (!house_.store.report(lease_, progress)) stop(StopCause::kLost);
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    has_news_ = true;
    throw;
  }
}

// With mutex_ locked, before and after.
void ServedSong::save_frames(std::unique_lock<std::mutex>& lock) {
  const std::vector<Frame> frames = unsaved_;
  if (frames.empty()) return;
  lock.unlock();
  if (!house_.store.append_frames(lease_, saved_, frames, fingerprint_)) stop(StopCause::kLost);
  house_.metrics.add_frames(std::ssize(frames));
  lock.lock();
  unsaved_.erase(unsaved_.begin(), unsaved_.begin() + std::ssize(frames));
  saved_ += std::ssize(frames);
}

void ServedSong::finish(const SongOutcome& outcome) {
  save();
  output_->end(outcome.stop_reason == StopReason::kLength);
  nlohmann::json json = {{"request", music_json(request_)},
                         {"result", result_of(request_.song, outcome, *output_, house_.plan, outcome.stop_reason,
                                              seconds_since(start_), house_.models, {}, false)}};
  output_->finish(request_, json);
  nlohmann::json& result = json["result"];
  result["waveform"] = waveform_of(peaks_);
  if (cause_ == StopCause::kLost || !house_.shelf.put(lease_) || !house_.store.finish(lease_, result.dump())) {
    spdlog::warn("song {} was made by another worker, too", lease_.id);
  }
  house_.metrics.add_song(JobState::kDone, seconds_since(start_), result["duration_s"].get<double>());
  close();
}

void ServedSong::end(const std::exception_ptr& exception) {
  const Error error = as_error(exception);
  const StopCause cause = cause_;
  const bool is_stopped = error.kind() == ErrorKind::kCancelled;
  try {
    save();
    if (cause == StopCause::kUser) {
      if (house_.store.cancelled(lease_)) house_.metrics.add_song(JobState::kCancelled, 0, 0);
    } else if (is_stopped) {
      if (cause != StopCause::kLost) static_cast<void>(house_.store.give_back(lease_));
    } else if (house_.store.fail(lease_, house_.shelf.without_folder(error.what()))) {
      house_.metrics.add_song(JobState::kFailed, 0, 0);
      spdlog::error("song {}: {}", lease_.id, error.what());
    }
  } catch (const std::exception& unsaved) {  // its lease will end, and the song goes on from what is saved
    spdlog::error("song {}: {}", lease_.id, unsaved.what());
  }
  close();
}

void ServedSong::close() {
  live_.reset();
  output_.reset();
  house_.shelf.discard(lease_);
  text_ = {};
  begin_ = {};
  peaks_ = {};
  is_over_ = true;
}

}  // namespace heartmula

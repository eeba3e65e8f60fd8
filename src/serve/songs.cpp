#include "serve/songs.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "audio/audio_reader.h"
#include "base/error.h"
#include "checkpoint/models.h"
#include "decode/frame_loop.h"
#include "serve/live_audio.h"
#include "serve/metrics.h"
#include "song/codes_file.h"
#include "song/settings.h"
#include "song/song_text.h"
#include "text/prompt.h"

namespace heartmula {
namespace {

constexpr std::chrono::milliseconds kListenPause{50};
constexpr int kLookPauses = 20;  // of kListenPause
constexpr std::chrono::milliseconds kLookPause{500};
constexpr std::chrono::milliseconds kEventPause{1000};
constexpr int kSilentEvents = 15;  // pauses without an event, after which a comment keeps the connection
constexpr int kLeastRetry = 5;     // seconds
constexpr int kMostRetry = 3600;
constexpr size_t kNameBytes = 80;
constexpr size_t kLongestTitle = 1000;  // bytes

std::string_view text_of(std::span<const int16_t> samples) {
  return {reinterpret_cast<const char*>(samples.data()), samples.size_bytes()};
}

}  // namespace

Songs::Songs(Models& models, JobStore& store, AudioShelf& shelf, EventHub& hub, const Metrics& metrics,
             Request defaults, const SongLimits& limits)
    : models_(models),
      store_(store),
      shelf_(shelf),
      hub_(hub),
      metrics_(metrics),
      defaults_(std::move(defaults)),
      limits_(limits) {
  models_.tokenizer();
}

SongPace Songs::pace() const {
  return {.seconds = metrics_.mean_song_seconds(), .at_once = limits_.songs_at_once};
}

NewJob Songs::new_job(const Request& request) const {
  return {.title = request.song.title,
          .request = to_json(request).dump(),
          .lyrics = request.song.lyrics,
          .tags = request.song.tags,
          .max_frames = request.song.frame_loop(0).max_frames(),
          .begin = {},
          .begin_frames = {},
          .fingerprint = {}};
}

std::vector<Frame> Songs::begin_frames(const SongOrder& order, const std::string& owner, std::string& fingerprint,
                                       int64_t& to_ms) {
  const Job past = find(order.begin->song, owner);
  std::vector<Frame> frames = store_.frames(past.id);
  to_ms = order.begin->to_ms.value_or(std::ssize(frames) * kFrameMs);
  const int64_t keep = to_ms / kFrameMs;
  if (keep > std::ssize(frames)) {
    throw HttpError(409, fmt::format("begin.to_ms is {}, but song {} has {} ms so far", to_ms, past.id,
                                     std::ssize(frames) * kFrameMs));
  }
  if (!past.fingerprint.empty() && past.fingerprint != models_.lm_identity().fingerprint) {
    throw HttpError(409, fmt::format("song {} was made with another language model", past.id));
  }
  frames.resize(static_cast<size_t>(keep));
  fingerprint = past.fingerprint;
  return frames;
}

std::vector<Job> Songs::accept(const SongOrder& order, const std::string& owner) {
  Request request = order.request;
  if (!request.song.seed) request.song.seed = random_seed();
  std::vector<NewJob> jobs;
  try {
    if (request.song.title.size() > kLongestTitle) throw user_error("title is longer than {} bytes", kLongestTitle);
    SongText text = make_song_text(models_, request.song);
    const bool is_long = request.song.long_song != LongSong::kNone;
    const int64_t longest =
        is_long ? limits_.max_audio_length_ms : longest_audio_ms(models_.lm_config(), text.prompt());
    const int64_t usual = std::min({kDefaultAudioLengthMs, limits_.max_audio_length_ms, std::max<int64_t>(longest, 0)});
    const int64_t length = request.song.max_audio_length_ms.value_or(usual);
    request.song.max_audio_length_ms = length;
    resolve_passages(text, models_, request.song);
    if (length > limits_.max_audio_length_ms) {
      throw user_error("max_audio_length_ms is {}, but this server makes songs up to {}", length,
                       limits_.max_audio_length_ms);
    }
    check_lengths(request);
  } catch (const Error& error) {
    throw HttpError(400, error.what());
  }
  NewJob job = new_job(request);
  if (order.begin) {
    BeginSong begin = {.id = order.begin->song, .to_ms = 0};
    job.begin_frames = begin_frames(order, owner, job.fingerprint, begin.to_ms);
    job.begin = begin;
    if (std::ssize(job.begin_frames) > job.max_frames) {
      throw HttpError(400, fmt::format("the song begins with {} ms, but is at most {} ms long", begin.to_ms,
                                       *request.song.max_audio_length_ms));
    }
  }
  const uint64_t first_seed = *request.song.seed;
  for (int64_t song = 0; song < order.songs; ++song) {
    request.song.seed = first_seed + static_cast<uint64_t>(song);
    job.request = to_json(request).dump();
    jobs.push_back(job);
  }
  Added added = store_.add(owner, jobs, limits_.jobs);
  if (added.outcome == AddOutcome::kAdded) return std::move(added.jobs);
  const int retry = std::clamp(static_cast<int>(pace().seconds), kLeastRetry, kMostRetry);
  switch (added.outcome) {
    case AddOutcome::kOwnerSecondsUsed:
      throw HttpError(429, "this key has used the seconds of audio that it may have within an hour", kMostRetry / 6);
    case AddOutcome::kOwnerQueueFull:
      throw HttpError(429, "this key has as many songs in the queue as it may have", retry);
    case AddOutcome::kQueueFull:
    case AddOutcome::kAdded:
      break;
  }
  throw HttpError(429, "the queue is full", retry);
}

Job Songs::find(const std::string& id, const std::string& owner) {
  if (is_job_id(id)) {
    if (std::optional<Job> job = store_.find(id); job && (owner.empty() || job->owner == owner)) return *job;
  }
  throw HttpError(404, "there is no such song");
}

JobPage Songs::list(JobFilter filter, const std::string& owner) {
  if (!owner.empty()) filter.owner = owner;
  return store_.list(filter);
}

Job Songs::change(const std::string& id, const std::string& owner, const std::optional<std::string>& title,
                  std::optional<bool> favourite) {
  find(id, owner);
  if (title && title->size() > kLongestTitle) {
    throw HttpError(400, fmt::format("title is longer than {} bytes", kLongestTitle));
  }
  try {
    store_.change(id, title, favourite);
  } catch (const Error& error) {
    throw HttpError(error.kind() == ErrorKind::kUser ? 400 : 500, error.what());
  }
  return find(id, owner);
}

Job Songs::cancel(const std::string& id, const std::string& owner) {
  find(id, owner);
  if (store_.request_cancel(id) == CancelOutcome::kOver) throw HttpError(409, "the song is over");
  return find(id, owner);
}

void Songs::remove(const std::string& id, const std::string& owner) {
  find(id, owner);
  if (store_.remove(id) == RemoveOutcome::kRunning) {
    throw HttpError(409, "the song is being made: cancel it first");
  }
  shelf_.remove(id);
}

Answer Songs::audio(const Job& job, AudioFormat format, bool download) {
  if (job.state != JobState::kDone) {
    throw HttpError(409, fmt::format("the song is {}: there is no audio file", job_state_name(job.state)));
  }
  const std::string extension(audio_format_name(format));
  Answer answer = {.type = media_type(format), .headers = {{"ETag", "\"" + job.id + "-" + extension + "\""}}};
  answer.headers.emplace_back("Cache-Control", "private, max-age=3600");
  if (download) {
    answer.headers.emplace_back("Content-Disposition", "attachment; filename=\"" + file_name(job, extension) + "\"");
  }
  answer.file = shelf_.open(job, format);
  return answer;
}

Job Songs::wait(const Job& job, const StreamSink& sink) {
  const auto news = hub_.subscribe(job.id, std::nullopt);
  for (;;) {
    const std::optional<Job> now = store_.find(job.id);
    if (!now) throw HttpError(404, "the song was deleted");
    if (is_over(now->state) || !sink({})) return *now;
    news->next(kEventPause);
  }
}

bool Songs::listen(const Job& job, const StreamSink& sink) {
  const auto news = hub_.subscribe(job.id, std::nullopt);
  std::unique_ptr<LiveAudioReader> live;
  std::optional<Job> now = job;
  while (now && !is_over(now->state)) {
    live = LiveAudioReader::open(shelf_.live_path(job.id));
    if (live) break;
    if (!sink({})) return false;
    news->next(kLookPause);
    now = store_.find(job.id);
  }
  if (live) {
    for (int silent = 0;;) {
      const bool is_last = live->is_over();
      std::string_view samples;
      while (!(samples = live->read()).empty()) {
        if (!sink(samples)) return false;
      }
      if (is_last || !sink({})) return is_last;
      if (++silent % kLookPauses == 0) {  // a killed worker leaves its file
        now = store_.find(job.id);
        if (!now || is_over(now->state)) return true;
      }
      std::this_thread::sleep_for(kListenPause);
    }
  }
  if (!now || now->state != JobState::kDone) return true;
  const Audio audio = shelf_.read(job.id);
  constexpr size_t kPiece = 24000;
  for (size_t at = 0; at < audio.frames(); at += kPiece) {
    const size_t count = std::min(kPiece, audio.frames() - at);
    const auto samples = interleaved_s16(std::span(audio.channels.front()).subspan(at, count),
                                         std::span(audio.channels.back()).subspan(at, count));
    if (!sink(text_of(samples))) return false;
  }
  return true;
}

Answer Songs::stream(const Job& job, AudioFormat format, bool with_header) {
  if (job.state == JobState::kFailed || job.state == JobState::kCancelled) {
    throw HttpError(409, fmt::format("the song is {}: there is nothing to hear", job_state_name(job.state)));
  }
  return {.type = with_header ? media_type(format) : kRawAudio,
          .headers = {{"X-Accel-Buffering", "no"}},
          .stream = [this, job, with_header](const StreamSink& sink) {
            if (with_header && !sink(endless_wav_header())) return;
            listen(job, sink);
          }};
}

Answer Songs::picture(const Job& job) {
  if (job.state != JobState::kDone) throw HttpError(409, "the song is not done");
  return {
      .type = "image/png", .headers = {{"Cache-Control", "private, max-age=3600"}}, .file = shelf_.open_picture(job)};
}

Answer Songs::request(const Job& job) {
  Answer answer = Answer::json(music_json(parse_request(job.request, job.id).request));
  answer.headers.emplace_back("Content-Disposition", "attachment; filename=\"" + file_name(job, "json") + "\"");
  return answer;
}

Answer Songs::codes(const Job& job) {
  const std::vector<Frame> frames = store_.frames(job.id);
  if (frames.empty()) throw HttpError(409, "the song has no frames yet");
  Request request = parse_request(job.request, job.id).request;
  const std::vector<std::byte> bytes = encode_codes(
      frames, {.request_json = music_json(request).dump(), .language_model = job.fingerprint, .codec = {}});
  return {.type = "application/octet-stream",
          .body = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
          .headers = {{"Content-Disposition", "attachment; filename=\"" + file_name(job, "codes.safetensors") + "\""}}};
}

Answer Songs::events(const std::optional<Job>& job, const std::string& owner, const std::string& first) {
  return {.type = "text/event-stream",
          .headers = {{"X-Accel-Buffering", "no"}},
          .stream = [this, job, owner, first](const StreamSink& sink) {
            const auto news = hub_.subscribe(job ? std::optional(job->id) : std::nullopt,
                                             owner.empty() ? std::nullopt : std::optional(owner));
            if (!first.empty() && !sink(first)) return;
            if (job) {
              const auto now = hub_.event_of(find(job->id, owner));
              if (!sink(now->text) || now->is_over) return;
            }
            for (int silent = 0;;) {
              if (const auto event = news->next(kEventPause)) {
                if (!sink(event->text) || (job && event->is_over)) return;
                silent = 0;
              } else if (++silent >= kSilentEvents ? !sink(": \n\n") : !sink({})) {
                return;
              } else if (silent >= kSilentEvents) {
                silent = 0;
              }
            }
          }};
}

Answer Songs::events(const std::string& owner, std::function<std::string(const Job&)> text_of) {
  return {.type = "text/event-stream",
          .headers = {{"X-Accel-Buffering", "no"}},
          .stream = [this, owner, text_of = std::move(text_of)](const StreamSink& sink) {
            const auto news = hub_.subscribe(std::nullopt, owner.empty() ? std::nullopt : std::optional(owner));
            while (sink({})) {
              const auto event = news->next(kEventPause);
              if (!event) continue;
              const std::optional<Job> job = store_.find(event->id);
              if (job && !sink(text_of(*job))) return;
            }
          }};
}

std::string media_type(AudioFormat format) {
  switch (format) {
    case AudioFormat::kWav:
      return "audio/wav";
    case AudioFormat::kFlac:
      return "audio/flac";
    case AudioFormat::kOgg:
    case AudioFormat::kOpus:
      return "audio/ogg";
    case AudioFormat::kMp3:
      return "audio/mpeg";
  }
  return "application/octet-stream";
}

std::string file_name(const Job& job, const std::string& extension) {
  std::string name;
  for (const char c : job.title.substr(0, kNameBytes)) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    if (is_plain) {
      name += c;
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  while (name.ends_with('_')) name.pop_back();
  return (name.empty() ? "heartmula-" + job.id : name) + "." + extension;
}

}  // namespace heartmula

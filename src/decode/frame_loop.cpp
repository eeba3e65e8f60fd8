#include "decode/frame_loop.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"

namespace heartmula {
namespace {

// Rows of a song that enters, in a pass between the frames of others: about the time of a frame where arithmetic
// limits.
constexpr int64_t kPieceBesideFrames = 64;

}  // namespace

int64_t longest_audio_ms(const LmConfig& config, const Prompt& prompt) {
  return (config.backbone.max_seq_len - static_cast<int64_t>(prompt.text_ids.size())) * kFrameMs;
}

int64_t required_context(const LmConfig& config, const Prompt& prompt, const FrameLoopSettings& settings) {
  const auto prompt_length = static_cast<int64_t>(prompt.text_ids.size());
  const int64_t needed = prompt_length + settings.max_frames() - 1;  // the last frame is never fed
  const int64_t context = config.backbone.max_seq_len;
  if (prompt_length >= context) {
    throw user_error("tags and lyrics make {} tokens, but the model's context holds {}: shorten the lyrics",
                     prompt_length, context);
  }
  if (needed > context) {
    throw user_error(
        "a prompt of {} tokens and {} frames exceed the model's context of {}: shorten the lyrics or use "
        "--max_audio_length_ms {} or less",
        prompt_length, settings.max_frames() - 1, context, longest_audio_ms(config, prompt));
  }
  for (const int32_t id : prompt.text_ids) {
    if (id >= 0 && id < config.text_vocab_size) continue;
    throw user_error(
        "{}: text_vocab_size is {}, but tags and lyrics make token {}; is the tokenizer of another checkpoint?",
        config.source, config.text_vocab_size, id);
  }
  return needed;
}

void check_codes(const LmConfig& config, std::span<const Frame> frames, const std::string& name) {
  for (size_t t = 0; t < frames.size(); ++t) {
    for (const int32_t code : frames[t]) {
      if (code >= 0 && code < config.audio_vocab_size) continue;
      throw user_error("{}: frame {} holds code {}, but the model knows 0 to {}", name, t, code,
                       config.audio_vocab_size - 1);
    }
  }
}

FrameLoop::FrameLoop(LmBatch& batch) : batch_(batch) {
  const auto songs = static_cast<size_t>(batch.size().songs);
  songs_.reserve(songs);
  run_.reserve(songs);
  frames_.reserve(songs);
  fed_.reserve(songs);
  fresh_.reserve(songs);
}

FrameLoop::~FrameLoop() = default;

void FrameLoop::enter(SongFrames work) {
  const FrameLoopSettings& settings = work.settings;
  if (settings.min_frames() > 1 && settings.audio_eos_id <= 0) {
    throw user_error("audio_eos_id is {}: every code ends the song, so it cannot be kept from ending",
                     settings.audio_eos_id);
  }
  int64_t place = 0;
  while (std::ranges::any_of(songs_, [&](const auto& song) { return song->place == place; })) ++place;
  const SamplingRule rule{settings.sampling, settings.min_frames(), settings.audio_eos_id};
  batch_.enter(place, settings.sampling.streams(), batch_.ops().make_sampler(rule, *work.noise));
  const auto number = std::ssize(work.begin);
  songs_.push_back(std::make_unique<Song>(Song{.work = std::move(work), .place = place, .number = number}));
}

bool FrameLoop::step() {
  end_cancelled();
  read_piece();
  if (run_is_over()) open_run();
  if (!run_.empty()) make_frames();
  if (run_is_over()) close_run();
  return !songs_.empty();
}

bool FrameLoop::run_is_over() const {
  return run_.empty() || batch_.collected() == (run_changes_ ? batch_.started() : run_end_);
}

void FrameLoop::close_run() {
  run_.clear();
  std::erase_if(songs_, [](const auto& song) { return song->state == State::kOver; });
}

void FrameLoop::end_cancelled() {
  for (const auto& song : songs_) {
    const CancelToken* cancel = song->work.cancel;
    if (song->state == State::kOver || cancel == nullptr || !cancel->cancelled()) continue;
    fail(*song, std::make_exception_ptr(Error(ErrorKind::kCancelled, "cancelled")));
  }
}

// Of the song that has waited longest. Others wait for it between their frames, so that pieces are short then.
void FrameLoop::read_piece() {
  const auto entering = std::ranges::find_if(songs_, [](const auto& song) { return song->state == State::kEnters; });
  if (entering == songs_.end()) return;
  Song& song = **entering;
  if (song.number >= song.work.settings.max_frames()) return end(song, StopReason::kLength);
  const Prompt& prompt = *song.work.prompt;
  const int64_t most = run_.empty() ? batch_.size().piece : std::min(batch_.size().piece, kPieceBesideFrames);
  try {
    if (!batch_.prefill(song.place, {prompt.text_ids, prompt.reference_index, prompt.muq_embed, song.work.begin},
                        most)) {
      return;
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    return fail(song, std::current_exception());
  }
  song.state = State::kFresh;
  run_changes_ = true;
}

// The frames of all songs whose beginning was read, from now on until that changes.
void FrameLoop::open_run() {
  close_run();
  fed_.clear();
  fresh_.clear();
  run_end_ = std::numeric_limits<int64_t>::max();
  for (const State state : {State::kRuns, State::kFresh}) {
    for (const auto& song : songs_) {
      if (song->state != state) continue;
      run_.push_back(song.get());
      run_end_ = std::min(run_end_, song->work.settings.max_frames() - song->number);
      if (state == State::kRuns) fed_.push_back({song->place, song->last});
      if (state == State::kFresh) fresh_.push_back(song->place);
    }
  }
  if (run_.empty()) return;
  for (Song* song : run_) song->state = State::kRuns;
  batch_.open(fed_, fresh_);
  batch_.begin_run();
  run_changes_ = false;
}

void FrameLoop::make_frames() {
  frames_.resize(run_.size());
  batch_.next_frames(frames_, run_changes_ ? batch_.started() : run_end_);
  for (size_t i = 0; i < run_.size(); ++i) {
    if (run_[i]->state == State::kRuns) take(*run_[i], frames_[i]);
  }
}

void FrameLoop::take(Song& song, const Frame& frame) {
  for (size_t q = 0; q < frame.size(); ++q) {
    if (frame[q] >= 0) continue;
    return fail(song, std::make_exception_ptr(logits_not_numbers(song.number, static_cast<int64_t>(q))));
  }
  const FrameLoopSettings& settings = song.work.settings;
  const bool ends = std::ranges::any_of(frame, [&](int32_t code) { return code >= settings.audio_eos_id; });
  if (song.number > 0 && ends) return end(song, StopReason::kEos);
  try {
    song.work.frame(song.number, frame);
  } catch (...) {
    return fail(song, std::current_exception());
  }
  batch_.keep(song.place, 1);
  song.last = frame;
  if (++song.number == settings.max_frames()) end(song, StopReason::kLength);
}

void FrameLoop::end(Song& song, StopReason reason) {
  song.state = State::kOver;
  run_changes_ = true;
  song.work.ended(reason);
}

void FrameLoop::fail(Song& song, std::exception_ptr error) {
  song.state = State::kOver;
  run_changes_ = true;
  song.work.failed(std::move(error));
}

StopReason generate_frames(LmBatch& batch, const Prompt& prompt, std::span<const Frame> begin,
                           const FrameLoopSettings& settings, const SamplingNoise& noise, const FrameSink& sink) {
  StopReason reason = StopReason::kLength;
  std::exception_ptr error;
  FrameLoop loop(batch);
  loop.enter({.prompt = &prompt,
              .begin = {begin.begin(), begin.end()},
              .settings = settings,
              .noise = &noise,
              .frame = sink,
              .ended = [&](StopReason r) { reason = r; },
              .failed = [&](std::exception_ptr e) { error = std::move(e); }});
  while (loop.step()) {
  }
  if (error) std::rethrow_exception(error);
  return reason;
}

}  // namespace heartmula

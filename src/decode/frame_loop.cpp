#include "decode/frame_loop.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace heartmula {
namespace {

// Rows of a song that enters, in a pass between the frames of others: about the time of a frame where arithmetic
// limits.
constexpr int64_t kPieceBesideFrames = 64;

// Of a song, at once: more than ten minutes.
constexpr int64_t kFramesReserved = 8192;

// Frames that a plain step may begin of a song, at most, where the device works ahead.
constexpr int64_t kFramesAhead = 4;

// The song does not end before its last chapter.
int64_t last_chapter_of(std::span<const Passage> passages) {
  if (passages.empty()) return 0;
  const auto is_last = [&](const Passage& passage) { return passage.prompt == passages.back().prompt; };
  return std::ranges::find_if(passages, is_last)->begin;
}

void warn_of_swap(const Error& error) {
  spdlog::warn("--kv_swap: {}; the song's keys and values are computed again", error.what());
}

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

FrameLoop::FrameLoop(LmBatch& batch, const DraftController& drafts, std::filesystem::path swap)
    : batch_(batch), drafts_(drafts), swap_(std::move(swap)) {
  const auto songs = static_cast<size_t>(batch.size().songs);
  songs_.reserve(songs);
  run_.reserve(songs);
  frames_.reserve(songs);
  fed_.reserve(songs);
  fresh_.reserve(songs);
}

FrameLoop::~FrameLoop() = default;

bool FrameLoop::has_room() const {
  return std::ssize(songs_) < batch_.size().songs && !someone_rests();
}

bool FrameLoop::someone_rests() const {
  return std::ranges::any_of(songs_, [](const auto& song) { return song->rests; });
}

RoomCounts FrameLoop::room() const {
  return {.pages = batch_.pages().count(),
          .free = batch_.pages().free(),
          .resting = std::ranges::count_if(songs_, [](const auto& song) { return song->rests; }),
          .rests = rests_,
          .swapped_bytes = swapped_bytes_};
}

void FrameLoop::enter(SongFrames work) {
  const FrameLoopSettings& settings = work.settings;
  const SamplingRule rule{settings.sampling, std::max(settings.min_frames(), last_chapter_of(work.passages)),
                          settings.audio_eos_id};
  if (rule.min_frames > 1 && settings.audio_eos_id <= 0) {
    throw user_error("audio_eos_id is {}: every code ends the song, so it cannot be kept from ending",
                     settings.audio_eos_id);
  }
  if (settings.lossy == LossyAcceptance::kGroup && work.groups == nullptr) {
    throw user_error("--lossy group needs the codec, whose codebooks say which codes sound alike");
  }
  std::optional<uint64_t> block_seed;
  if (settings.verification == GuessVerification::kBlock) {
    const auto tells = [](const auto& drafter) { return drafter && drafter->tells_chances() && drafter->completes(); };
    if (work.drafters.empty() || !std::ranges::all_of(work.drafters, tells)) {
      throw user_error(
          "--verification block needs a drafter that knows how likely its guesses are: --drafter FILE, and with "
          "--draft_frames above 0 one that drafts frames");
    }
    const auto* noise = dynamic_cast<const PhiloxNoise*>(work.noise);
    if (noise == nullptr) throw failure("guesses are verified as blocks in songs with a seed alone");
    block_seed = noise->seed();
  }
  int64_t place = 0;
  while (std::ranges::any_of(songs_, [&](const auto& song) { return song->place == place; })) ++place;
  batch_.enter(place, settings.sampling.streams(), batch_.ops().make_sampler(rule, *work.noise));
  auto song = std::make_unique<Song>();
  song->number = std::ssize(work.begin);
  song->frames = work.begin;
  song->frames.reserve(static_cast<size_t>(std::min(settings.max_frames(), kFramesReserved)));
  song->place = place;
  song->rule = rule;
  song->block_seed = block_seed;
  song->work = std::move(work);
  if (!song->work.passages.empty()) song->passage = passage_at(song->work.passages, song->number);
  begin_anew(*song);
  songs_.push_back(std::move(song));
}

bool FrameLoop::step() {
  end_cancelled();
  bring_back();
  read_piece();
  step_begin_ = Clock::now();
  const auto made = std::ranges::count_if(songs_, [](const auto& song) { return is_made(*song); });
  const std::optional<DraftChoice> drafts = has_drafters() ? drafts_.choose(made) : std::nullopt;
  const int64_t ahead = drafts ? drafts->frames + 1 : kFramesAhead;
  if (drafts || !has_room_for(ahead)) run_changes_ = true;
  if (run_is_over()) {
    close_run();
    find_room(ahead);
    if (drafts) {
      make_drafted_frames(*drafts);
    } else {
      open_run();
    }
  }
  if (!run_.empty()) make_frames();
  if (run_is_over()) close_run();
  return !songs_.empty();
}

bool FrameLoop::run_is_over() const {
  return run_.empty() || batch_.collected() == (run_changes_ ? batch_.started() : run_end_);
}

void FrameLoop::close_run() {
  run_.clear();
  std::erase_if(songs_, [this](const auto& song) {
    if (song->state == State::kTurns) begin_anew(*song);
    if (song->state != State::kOver) return false;
    batch_.restart(song->place);
    return true;
  });
}

bool FrameLoop::is_made(const Song& song) {
  return !song.rests && (song.state == State::kRuns || song.state == State::kFresh);
}

bool FrameLoop::has_room_for(int64_t frames) {
  return std::ranges::all_of(songs_, [&](const auto& song) {
    return !is_made(*song) || batch_.make_room(song->place, batch_.positions(song->place) + frames);
  });
}

// For the next frames of the oldest songs; the youngest ones rest where there is none.
void FrameLoop::find_room(int64_t frames) {
  for (const auto& song : songs_) {
    while (is_made(*song) && !batch_.make_room(song->place, batch_.positions(song->place) + frames)) {
      const auto youngest = std::find_if(songs_.rbegin(), songs_.rend(),
                                         [this](const auto& other) { return batch_.has_pages(other->place); });
      rest(**youngest);
    }
  }
}

void FrameLoop::rest(Song& song) {
  const bool was_made = is_made(song);
  ++rests_;
  if (!was_made || swap_.empty() || !swap_out(song)) begin_anew(song);
  change_rest(song, true);
}

// False if the disk did not take it.
bool FrameLoop::swap_out(Song& song) {
  try {
    song.swap = std::make_unique<SwapFile>(swap_);
    batch_.page_out(song.place, [&](std::span<const std::byte> bytes) { song.swap->write(bytes); });
    swapped_bytes_ += song.swap->size();
    return true;
  } catch (const Error& error) {
    warn_of_swap(error);
    return false;
  }
}

void FrameLoop::change_rest(Song& song, bool rests) {
  song.rests = rests;
  try {
    if (song.work.rests) song.work.rests(rests);
  } catch (...) {
    fail(song, std::current_exception());
  }
}

// Keys and values will be computed, but for those of the last frame: with it goes the step that would have come next,
// so that guesses are verified at the same frames as if nothing had happened.
void FrameLoop::begin_anew(Song& song) {
  song.swap.reset();
  song.state = State::kEnters;
  if (!song.work.passages.empty()) song.work.prompt = song.work.passages[song.passage].prompt;
  song.work.begin.assign(song.frames.begin() + past_of(song), song.frames.end() - (sees_frames(song) ? 1 : 0));
  batch_.restart(song.place);
}

bool FrameLoop::sees_frames(const Song& song) {
  return std::ssize(song.frames) > past_of(song);
}

// The first frame that it sees.
int64_t FrameLoop::past_of(const Song& song) {
  return song.work.passages.empty() ? 0 : song.work.passages[song.passage].past;
}

// Of its passage.
int64_t FrameLoop::frames_left(const Song& song) {
  const std::vector<Passage>& passages = song.work.passages;
  const bool is_last = song.passage + 1 >= passages.size();
  return (is_last ? song.work.settings.max_frames() : passages[song.passage + 1].begin) - song.number;
}

// Room for what the song has so far, beside a page for each stream of the songs that are made and go on growing. One
// that rests comes back for a page of frames, or it would rest again at once.
bool FrameLoop::admit(const Song& song) {
  int64_t kept = 0;
  for (const auto& other : songs_) {
    if (!is_made(*other)) continue;
    const int64_t longest = batch_.positions(other->place) + frames_left(*other);
    kept += std::min(batch_.size().streams, batch_.missing_pages(other->place, longest));
  }
  const int64_t positions = std::ssize(song.work.prompt->text_ids) + std::ssize(song.frames) - past_of(song);
  const int64_t soon = song.rests ? std::min(frames_left(song), kKvBlock) : 0;
  return batch_.missing_pages(song.place, positions + soon) + kept <= batch_.pages().free();
}

// Songs that rest, the oldest first.
void FrameLoop::bring_back() {
  for (const auto& song : songs_) {
    if (!song->rests || song->state == State::kOver) continue;
    if (!admit(*song)) return;
    if (song->swap) {
      try {
        batch_.page_in(song->place, [&](std::span<std::byte> bytes) { song->swap->read(bytes); });
        song->swap.reset();
      } catch (const Error& error) {
        warn_of_swap(error);
        begin_anew(*song);
      }
    }
    run_changes_ = true;
    change_rest(*song, false);
    if (song->state == State::kEnters) return;  // it takes its room as it is read
  }
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
  const auto entering =
      std::ranges::find_if(songs_, [](const auto& song) { return song->state == State::kEnters && !song->rests; });
  if (entering == songs_.end()) return;
  Song& song = **entering;
  if (song.number >= song.work.settings.max_frames()) return end(song, StopReason::kLength);
  if (!batch_.has_pages(song.place) && (someone_rests() || !admit(song))) return;
  const Prompt& prompt = *song.work.prompt;
  const bool is_alone = std::ranges::all_of(songs_, [](const auto& other) { return other->state == State::kEnters; });
  const int64_t most = is_alone ? batch_.size().piece : std::min(batch_.size().piece, kPieceBesideFrames);
  try {
    if (!batch_.prefill(song.place,
                        {prompt.text_ids, prompt.reference_index, prompt.muq_embed, song.work.begin, past_of(song)},
                        most)) {
      return;
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUser) throw;
    return fail(song, std::current_exception());
  }
  song.state = sees_frames(song) ? State::kRuns : State::kFresh;
  if (song.state == State::kRuns) batch_.keep(song.place, 1);
  run_changes_ = true;
}

// Songs whose beginning was read: those that run, then fresh ones.
void FrameLoop::list_songs() {
  run_.clear();
  fresh_.clear();
  for (const State state : {State::kRuns, State::kFresh}) {
    for (const auto& song : songs_) {
      if (song->state != state || song->rests) continue;
      run_.push_back(song.get());
      if (state == State::kFresh) fresh_.push_back(song->place);
    }
  }
}

// The frames of all songs, from now on until others take part.
void FrameLoop::open_run() {
  list_songs();
  if (run_.empty()) return;
  fed_.clear();
  run_end_ = std::numeric_limits<int64_t>::max();
  for (Song* song : run_) {
    run_end_ = std::min(run_end_, frames_left(*song));
    if (song->state == State::kRuns) fed_.push_back({song->place, song->frames.back()});
    song->state = State::kRuns;
  }
  batch_.open(fed_, fresh_);
  batch_.begin_run();
  run_changes_ = false;
}

void FrameLoop::make_frames() {
  frames_.resize(run_.size());
  batch_.next_frames(frames_, run_changes_ ? batch_.started() : run_end_);
  for (size_t i = 0; i < run_.size(); ++i) {
    if (run_[i]->state != State::kRuns) continue;
    for (size_t arm = 0; arm < run_[i]->work.drafters.size(); ++arm) watch(*run_[i], arm, frames_[i]);
    take(*run_[i], frames_[i]);
  }
  // The first step of a run is another one where the device works ahead.
  if (batch_.collected() > 1) drafts_.plain_step(seconds_since(step_begin_), std::ssize(run_));
}

bool FrameLoop::has_drafters() const {
  return std::ranges::any_of(songs_, [](const auto& song) {
    return std::ranges::any_of(song->work.drafters, [](const auto& drafter) { return drafter != nullptr; });
  });
}

// Null if there is none (any more).
Drafter* FrameLoop::drafter_of(const Song& song, size_t arm) {
  return arm < song.work.drafters.size() ? song.work.drafters[arm].get() : nullptr;
}

// A drafter that fails is let go: the song needs none.
void FrameLoop::ask_drafter(Song& song, size_t arm, const std::function<void(Drafter&, const DraftTask&)>& question,
                            int64_t most, int64_t known) {
  std::optional<RoundNoise> noise;
  std::function<void(int64_t, int64_t, CodeChances)> tell;
  if (song.block_seed) {
    noise.emplace(*song.block_seed, RandomDomain::kGuesses, song.number, known);
    tell = [&song](int64_t number, int64_t codebook, CodeChances chances) {
      song.chances.at(static_cast<size_t>(number - song.number)).at(static_cast<size_t>(codebook)) = std::move(chances);
    };
  }
  try {
    question(*song.work.drafters[arm], {.frames = song.frames,
                                        .most = most,
                                        .rule = song.rule,
                                        .noise = noise ? static_cast<const SamplingNoise&>(*noise) : *song.work.noise,
                                        .batch = batch_,
                                        .place = song.place,
                                        .tell = tell});
  } catch (const std::exception& error) {
    const auto* told = dynamic_cast<const Error*>(&error);
    if (told != nullptr && told->kind() == ErrorKind::kCancelled) throw;
    spdlog::warn("the drafter failed, the song goes on without it: {}", error.what());
    song.work.drafters[arm].reset();
  }
}

void FrameLoop::propose(Song& song, size_t arm, int64_t most) {
  song.drafts.clear();
  if (drafter_of(song, arm) == nullptr || song.frames.empty() || most <= 0) return;
  ask_drafter(
      song, arm, [&](Drafter& drafter, const DraftTask& task) { drafter.propose(task, song.drafts); }, most);
  if (drafter_of(song, arm) == nullptr) song.drafts.clear();
  const auto good = std::ranges::find_if_not(song.drafts, [this](const Frame& f) { return has_codes(f); });
  song.drafts.resize(static_cast<size_t>(std::min<int64_t>(good - song.drafts.begin(), most)));
}

// The codes of the song's frame `number` behind its first `known`.
void FrameLoop::complete(Song& song, size_t arm, int64_t number, int64_t known, Frame& frame) {
  if (drafter_of(song, arm) == nullptr) return;
  Frame guess = frame;
  guessed_codes_ += kCodebooks - known;
  const auto forget_chances = [&] {
    if (song.block_seed) song.chances[static_cast<size_t>(number - song.number)] = {};
  };
  forget_chances();
  ask_drafter(
      song, arm, [&](Drafter& drafter, const DraftTask& task) { drafter.complete(task, number, known, guess); }, 0,
      known);
  if (drafter_of(song, arm) == nullptr || !has_codes(guess)) return forget_chances();
  const auto first = static_cast<std::ptrdiff_t>(known);
  std::copy(guess.begin() + first, guess.end(), frame.begin() + first);
}

bool FrameLoop::has_codes(const Frame& frame) const {
  const int64_t vocabulary = batch_.model().config.audio_vocab_size;
  return std::ranges::all_of(frame, [&](int32_t code) { return code >= 0 && code < vocabulary; });
}

// What would have been guessed, compared with what came.
void FrameLoop::watch(Song& song, size_t arm, const Frame& frame) {
  if (!drafts_.watches(arm)) return;
  propose(song, arm, 1);
  if (song.drafts.empty()) return;
  drafts_.compared(arm, song.drafts.front() == frame);
  if (!song.work.drafters[arm]->completes()) return;
  int64_t right = 0;
  for (size_t known = 1; known < frame.size() && drafter_of(song, arm) != nullptr; ++known) {
    Frame guess = {};
    std::copy_n(frame.begin(), known, guess.begin());
    complete(song, arm, song.number, static_cast<int64_t>(known), guess);
    right += guess[known] == frame[known] ? 1 : 0;
  }
  drafts_.compared_rest(arm, right);
}

void FrameLoop::make_drafted_frames(const DraftChoice& choice) {
  list_songs();
  if (run_.empty()) return;
  fed_.clear();
  drafted_.clear();
  guessed_codes_ = 0;
  int64_t opened = 0;
  int64_t drafted = 0;
  for (Song* song : run_) {
    song->drafts.clear();
    if (song->block_seed) song->chances.assign(static_cast<size_t>(batch_.size().frames), {});
    if (song->state == State::kRuns) {
      propose(*song, choice.arm, std::min({choice.frames, batch_.size().frames - 1, frames_left(*song) - 1}));
    }
  }
  for (Song* song : run_) {
    if (song->state == State::kRuns) {
      fed_.push_back({song->place, song->frames.back()});
      for (const Frame& draft : song->drafts) fed_.push_back({song->place, draft});
    }
    song->state = State::kRuns;
    const Drafter* drafter = drafter_of(*song, choice.arm);
    drafted_.push_back({.first = opened,
                        .drafts = song->drafts,
                        .rides = drafter != nullptr && drafter->rides(),
                        .lossy = song->work.settings.lossy,
                        .rule = song->rule,
                        .noise = song->work.noise,
                        .groups = song->work.groups,
                        .block_seed = song->block_seed,
                        .chances = song->chances});
    if (song->block_seed || (drafter != nullptr && drafter->completes())) {
      drafted_.back().complete = [this, song, arm = choice.arm](int64_t i, int64_t known, Frame& frame) {
        complete(*song, arm, song->number + i, known, frame);
      };
    }
    opened += 1 + std::ssize(song->drafts);
    drafted += std::ssize(song->drafts);
  }
  batch_.open(fed_, fresh_);
  const std::span<const DraftVerdict> verdicts = verification_.run(batch_.decoder(), drafted_);
  int64_t accepted = 0;
  for (size_t i = 0; i < run_.size(); ++i) {
    const DraftVerdict& verdict = verdicts[i];
    for (const Frame& frame : verdict.frames) {
      if (!take(*run_[i], frame)) break;
    }
    accepted += verdict.accepted;
    if (!verdict.drafts.empty()) drafts_.compared(choice.arm, verdict.accepted > 0);
    if (drafter_of(*run_[i], choice.arm) == nullptr) continue;
    ask_drafter(*run_[i], choice.arm, [&](Drafter& drafter, const DraftTask& task) { drafter.learn(task, verdict); });
  }
  drafts_.drafted_step(choice, seconds_since(step_begin_),
                       {.songs = std::ssize(run_),
                        .drafts = drafted,
                        .accepted = accepted,
                        .depth_passes = verification_.passes(),
                        .heads = verification_.heads(),
                        .guessed_codes = guessed_codes_ + drafted * kCodebooks});
  run_changes_ = true;
  close_run();
}

// Whether the song goes on.
bool FrameLoop::take(Song& song, const Frame& frame) {
  for (size_t q = 0; q < frame.size(); ++q) {
    if (frame[q] >= 0) continue;
    fail(song, std::make_exception_ptr(logits_not_numbers(song.number, static_cast<int64_t>(q))));
    return false;
  }
  const FrameLoopSettings& settings = song.work.settings;
  const bool ends = std::ranges::any_of(frame, [&](int32_t code) { return code >= settings.audio_eos_id; });
  if (song.number > 0 && ends) {
    end(song, StopReason::kEos);
    return false;
  }
  try {
    song.work.frame(song.number, frame);
  } catch (...) {
    fail(song, std::current_exception());
    return false;
  }
  batch_.keep(song.place, 1);
  song.frames.push_back(frame);
  ++song.number;
  if (frames_left(song) > 0) return true;
  if (song.number >= settings.max_frames()) {
    end(song, StopReason::kLength);
    return false;
  }
  ++song.passage;
  song.state = State::kTurns;
  run_changes_ = true;
  return false;
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

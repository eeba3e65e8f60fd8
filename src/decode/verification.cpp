#include "decode/verification.h"

#include <algorithm>
#include <iterator>

#include "sampling/block_verification.h"

namespace heartmula {

std::span<const DraftVerdict> Verification::run(FrameDecoder& decoder, std::span<const DraftedSong> songs) {
  decoder_ = &decoder;
  passes_ = heads_ = 0;
  reads_drafts_ = true;
  guesses_ = std::ranges::any_of(songs, [](const DraftedSong& song) { return song.complete != nullptr; });
  progress_.clear();
  decoder.sample_first();
  const std::span<const Frame> codes = decoder.read_codes();
  for (const DraftedSong& song : songs) {
    progress_.push_back({.alive = std::ssize(song.drafts)});
    if (song.block_seed) {
      listen(song, progress_.back(), 0);
    } else {
      compare(song, progress_.back(), 0, codes);
    }
  }
  if (guesses_) {
    guess(songs, codes);
    while (read_guesses(songs)) guess(songs, decoder.read_codes());
  } else {
    read_guesses(songs);
    finish(songs);
  }
  tell(songs);
  return verdicts_;
}

// Drafts in the pass over them: those that may be right, or with riders all.
int64_t Verification::drafts_of(const DraftedSong& song, const Progress& progress) const {
  if (!reads_drafts_) return 0;
  return song.rides && !guesses_ && progress.alive > 0 ? std::ssize(song.drafts) : progress.alive;
}

// The first draft whose code is another one is the last of which a code is known now, and no later one can be right.
void Verification::compare(const DraftedSong& song, Progress& progress, int64_t codebook,
                           std::span<const Frame> codes) {
  const auto q = static_cast<size_t>(codebook);
  const auto code_of = [&](int64_t i) { return codes[static_cast<size_t>(song.first + i)][q]; };
  if (reads_drafts_) {
    for (int64_t i = 0; i < progress.alive; ++i) {
      if (stands(song, i, codebook, song.drafts[static_cast<size_t>(i)][q], code_of(i))) continue;
      progress.alive = i;
      progress.known = codebook + 1;
      progress.matched = codebook;
      progress.is_guessed = false;
      return;
    }
  }
  if (!progress.is_guessed || progress.known != codebook) return;
  progress.known = codebook + 1;
  progress.is_guessed = stands(song, progress.alive, codebook, progress.guess[q], code_of(progress.alive));
}

// Whether a guess is right, or is taken all the same: not where one of the two would end the song.
bool Verification::stands(const DraftedSong& song, int64_t i, int64_t codebook, int32_t guess, int32_t drawn) {
  if (guess == drawn) return true;
  if (song.lossy == LossyAcceptance::kNone || drawn < 0 || std::max(guess, drawn) >= song.rule.end_code) return false;
  const int64_t frame = song.first + i;
  const int64_t number = decoder_->open_frames()[static_cast<size_t>(frame)].number;
  if (song.lossy == LossyAcceptance::kGroup) {
    if (!song.groups->are_alike(codebook, drawn, guess)) return false;
  } else {
    const DrawnCode code = {*song.noise, static_cast<uint32_t>(number), static_cast<uint32_t>(codebook), drawn};
    const std::optional<CodeChances> chances =
        chances_of(song.rule.settings, decoder_->sampled_logits(frame), song.rule.allowed(number), scratch_);
    if (!chances || !accepts(song.lossy, *chances, code, guess)) return false;
  }
  decoder_->replace(frame, codebook, guess);
  return true;
}

// What the model draws the codes from that were just sampled, of all guesses in hand.
void Verification::listen(const DraftedSong& song, Progress& progress, int64_t codebook) {
  const auto hear = [&](int64_t i) {
    const int64_t frame = song.first + i;
    const int64_t number = decoder_->open_frames()[static_cast<size_t>(frame)].number;
    progress.said.resize(song.drafts.size() + 1);
    progress.said[static_cast<size_t>(i)][static_cast<size_t>(codebook)] =
        chances_of(song.rule.settings, decoder_->sampled_logits(frame), song.rule.allowed(number), scratch_)
            .value_or(CodeChances());
  };
  for (int64_t i = 0; i < drafts_of(song, progress); ++i) hear(i);
  if (progress.is_guessed && progress.known <= codebook) hear(progress.alive);
}

// The drafts as one block, or the guess of a frame's rest.
void Verification::settle(const DraftedSong& song, Progress& progress) {
  std::vector<Place> places;
  for (int64_t i = 0; i < drafts_of(song, progress); ++i) {
    for (int64_t codebook = 0; codebook < kCodebooks; ++codebook) places.push_back({i, codebook});
  }
  if (!places.empty()) return verify_block(song, progress, places, 0);
  if (!progress.is_guessed) return;
  for (int64_t codebook = progress.known; codebook < kCodebooks; ++codebook) {
    places.push_back({progress.alive, codebook});
  }
  verify_block(song, progress, places, progress.known);
}

// The guesses of these places, which follow each other, behind the `known` codes of a frame or, if those are none, of
// whole frames.
void Verification::verify_block(const DraftedSong& song, Progress& progress, std::span<const Place> places,
                                int64_t known) {
  const std::span<const OpenFrame> open = decoder_->open_frames();
  const auto number = [&](Place place) { return open[static_cast<size_t>(song.first + place.i)].number; };
  const int64_t first_number = open[static_cast<size_t>(song.first)].number;
  const RoundNoise verdicts(*song.block_seed, RandomDomain::kVerdicts, first_number, known);
  const RoundNoise residuals(*song.block_seed, RandomDomain::kResiduals, first_number, known);
  std::vector<CodeChances> sure;  // of guesses that were drawn from nothing
  sure.reserve(places.size());
  std::vector<BlockGuess> block;
  std::vector<double> uniforms;
  for (const Place& place : places) {
    const auto i = static_cast<size_t>(place.i);
    const auto q = static_cast<size_t>(place.codebook);
    const CodeChances& said = progress.said[i][q];
    if (said.codes.empty()) break;
    const int32_t code = known > 0 ? progress.guess[q] : song.drafts[i][q];
    const CodeChances* drafted = &song.chances[i][q];
    if (drafted->codes.empty()) drafted = &sure.emplace_back(CodeChances::only(code));
    block.push_back({.code = code, .drafted = *drafted, .model = said});
    uniforms.push_back(verdicts.uniform(static_cast<uint32_t>(number(place)), static_cast<uint32_t>(q)));
  }
  const BlockChances chances = block_chances(block);
  const size_t stand = standing_guesses(chances, uniforms);
  const bool all_stand = stand == places.size();
  // The frame in which they end, or the one behind if they end with one.
  const Place end = all_stand ? Place{places.back().i + (known > 0 ? 0 : 1), 0} : places[stand];
  for (size_t g = 0; g < stand; ++g) {
    if (places[g].i == end.i) decoder_->replace(song.first + end.i, places[g].codebook, block[g].code);
  }
  progress.alive = end.i;
  if (all_stand) {
    progress.known = known > 0 ? kCodebooks : 1;
    return;
  }
  int32_t code = -1;  // where the logits are not numbers
  if (stand < block.size()) {
    const CodeChances residual = residual_of(block[stand].model, block[stand].drafted, chances.weights[stand]);
    code = drawn_code(residual.codes, residual.chances, residuals, number(end), end.codebook);
  }
  decoder_->replace(song.first + end.i, end.codebook, code);
  progress.known = end.codebook + 1;
  if (known == 0) progress.matched = end.codebook;
}

// The rest of the frame behind the drafts that stand. A song that nobody guesses for has a guess, too: it costs
// nothing.
void Verification::guess(std::span<const DraftedSong> songs, std::span<const Frame> codes) {
  for (size_t s = 0; s < songs.size(); ++s) {
    Progress& progress = progress_[s];
    progress.is_guessed = progress.known < kCodebooks;
    if (songs[s].block_seed && drafts_of(songs[s], progress) > 0) progress.is_guessed = false;  // behind which drafts?
    if (!progress.is_guessed) continue;
    progress.guess = {};
    const Frame& head = codes[static_cast<size_t>(songs[s].first + progress.alive)];
    std::copy_n(head.begin(), progress.known, progress.guess.begin());
    if (songs[s].complete) songs[s].complete(progress.alive, progress.known, progress.guess);
  }
}

// One pass of the depth decoder over all drafts and guesses, false if there are none.
bool Verification::read_guesses(std::span<const DraftedSong> songs) {
  opened_.clear();
  drafts_.clear();
  known_.clear();
  for (size_t s = 0; s < songs.size(); ++s) {
    const Progress& progress = progress_[s];
    for (int64_t i = 0; i < drafts_of(songs[s], progress); ++i) {
      opened_.push_back(songs[s].first + i);
      drafts_.push_back(songs[s].drafts[static_cast<size_t>(i)]);
      known_.push_back(1);
    }
    if (!progress.is_guessed) continue;
    opened_.push_back(songs[s].first + progress.alive);
    drafts_.push_back(progress.guess);
    known_.push_back(progress.known);
  }
  if (opened_.empty()) return false;
  decoder_->read_drafts(opened_, drafts_, known_);
  ++passes_;
  for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) {
    opened_.clear();
    for (size_t s = 0; s < songs.size(); ++s) {
      const Progress& progress = progress_[s];
      for (int64_t i = 0; i < drafts_of(songs[s], progress); ++i) opened_.push_back(songs[s].first + i);
      const bool is_read = songs[s].block_seed ? progress.known <= codebook : progress.known == codebook;
      if (progress.is_guessed && is_read) opened_.push_back(songs[s].first + progress.alive);
    }
    if (opened_.empty()) continue;
    decoder_->sample_drafted(codebook, opened_);
    ++heads_;
    const std::span<const Frame> codes = decoder_->read_codes();
    for (size_t s = 0; s < songs.size(); ++s) {
      if (songs[s].block_seed) {
        listen(songs[s], progress_[s], codebook);
        continue;
      }
      if (drafts_of(songs[s], progress_[s]) > 0) progress_[s].riders_known = codebook + 1;
      compare(songs[s], progress_[s], codebook, codes);
    }
  }
  for (size_t s = 0; s < songs.size(); ++s) {
    if (songs[s].block_seed) settle(songs[s], progress_[s]);
  }
  reads_drafts_ = false;
  return true;
}

// Code after code of the frames behind the drafts that stand, and of riders.
void Verification::finish(std::span<const DraftedSong> songs) {
  for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) {
    opened_.clear();
    for (size_t s = 0; s < songs.size(); ++s) {
      const Progress& progress = progress_[s];
      if (progress.known <= codebook) opened_.push_back(songs[s].first + progress.alive);
      if (!songs[s].rides || progress.riders_known > codebook) continue;
      for (int64_t i = progress.alive + 1; i < std::ssize(songs[s].drafts); ++i) opened_.push_back(songs[s].first + i);
    }
    if (opened_.empty()) continue;
    decoder_->sample_next(codebook, opened_);
    ++passes_;
    ++heads_;
  }
}

void Verification::tell(std::span<const DraftedSong> songs) {
  const std::span<const Frame> codes = decoder_->read_codes();
  frames_.clear();
  verdicts_.clear();
  frames_.reserve(codes.size());  // so that spans of it stay where they are
  for (size_t s = 0; s < songs.size(); ++s) {
    const DraftedSong& song = songs[s];
    const Progress& progress = progress_[s];
    const auto begin = std::ssize(frames_);
    const auto accepted = song.drafts.first(static_cast<size_t>(progress.alive));
    frames_.insert(frames_.end(), accepted.begin(), accepted.end());
    const auto head = codes.begin() + song.first + progress.alive;
    frames_.push_back(*head);
    const int64_t behind = std::ssize(song.drafts) - progress.alive - 1;
    const int64_t riders = song.rides && !guesses_ ? std::max<int64_t>(0, behind) : 0;
    frames_.insert(frames_.end(), head + 1, head + 1 + riders);
    const std::span<const Frame> made = std::span(frames_).subspan(static_cast<size_t>(begin));
    verdicts_.push_back({.drafts = song.drafts,
                         .accepted = progress.alive,
                         .matched = progress.matched,
                         .frames = made.first(static_cast<size_t>(progress.alive + 1)),
                         .riders = made.last(static_cast<size_t>(riders))});
  }
}

}  // namespace heartmula

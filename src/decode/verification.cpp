#include "decode/verification.h"

#include <algorithm>
#include <iterator>

namespace heartmula {

std::span<const DraftVerdict> Verification::run(FrameDecoder& decoder, std::span<const DraftedSong> songs) {
  decoder_ = &decoder;
  passes_ = 0;
  reads_drafts_ = true;
  guesses_ = std::ranges::any_of(songs, [](const DraftedSong& song) { return song.complete != nullptr; });
  progress_.clear();
  decoder.sample_first();
  const std::span<const Frame> codes = decoder.read_codes();
  for (const DraftedSong& song : songs) {
    progress_.push_back({.alive = std::ssize(song.drafts)});
    compare(song, progress_.back(), 0, codes);
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
      if (song.drafts[static_cast<size_t>(i)][q] == code_of(i)) continue;
      progress.alive = i;
      progress.known = codebook + 1;
      progress.matched = codebook;
      progress.is_guessed = false;
      return;
    }
  }
  if (!progress.is_guessed || progress.known != codebook) return;
  progress.known = codebook + 1;
  progress.is_guessed = progress.guess[q] == code_of(progress.alive);
}

// The rest of the frame behind the drafts that stand. A song that nobody guesses for has a guess, too: it costs
// nothing.
void Verification::guess(std::span<const DraftedSong> songs, std::span<const Frame> codes) {
  for (size_t s = 0; s < songs.size(); ++s) {
    Progress& progress = progress_[s];
    progress.is_guessed = progress.known < kCodebooks;
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
      if (progress.is_guessed && progress.known == codebook) opened_.push_back(songs[s].first + progress.alive);
    }
    if (opened_.empty()) continue;
    decoder_->sample_drafted(codebook, opened_);
    const std::span<const Frame> codes = decoder_->read_codes();
    for (size_t s = 0; s < songs.size(); ++s) {
      if (drafts_of(songs[s], progress_[s]) > 0) progress_[s].riders_known = codebook + 1;
      compare(songs[s], progress_[s], codebook, codes);
    }
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

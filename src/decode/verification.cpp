#include "decode/verification.h"

#include <algorithm>
#include <iterator>

namespace heartmula {
namespace {

// Drafts that a pass over the drafts has: those that may be right, or with riders all.
int64_t read_of(const DraftedSong& song, int64_t alive) {
  return alive > 0 && song.rides ? std::ssize(song.drafts) : alive;
}

}  // namespace

std::span<const DraftVerdict> Verification::run(FrameDecoder& decoder, std::span<const DraftedSong> songs) {
  passes_ = 0;
  progress_.clear();
  decoder.sample_first();
  const std::span<const Frame> first_codes = decoder.read_codes();
  for (const DraftedSong& song : songs) {
    Progress& progress = progress_.emplace_back(Progress{.alive = std::ssize(song.drafts)});
    compare(song, progress, 0, first_codes);
  }
  read_drafts(decoder, songs);
  finish(decoder, songs);

  const std::span<const Frame> codes = decoder.read_codes();
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
    const int64_t riders = song.rides ? std::max<int64_t>(0, std::ssize(song.drafts) - progress.alive - 1) : 0;
    frames_.insert(frames_.end(), head + 1, head + 1 + riders);
    const std::span<const Frame> made = std::span(frames_).subspan(static_cast<size_t>(begin));
    verdicts_.push_back({.drafts = song.drafts,
                         .accepted = progress.alive,
                         .matched = progress.matched,
                         .frames = made.first(static_cast<size_t>(progress.alive + 1)),
                         .riders = made.last(static_cast<size_t>(riders))});
  }
  return verdicts_;
}

// The first draft whose code is another one is the last of which a code is known now, and no later one can be right.
void Verification::compare(const DraftedSong& song, Progress& progress, int64_t codebook,
                           std::span<const Frame> codes) {
  const auto q = static_cast<size_t>(codebook);
  for (int64_t i = 0; i < progress.alive; ++i) {
    if (song.drafts[static_cast<size_t>(i)][q] == codes[static_cast<size_t>(song.first + i)][q]) continue;
    progress.alive = i;
    progress.known = codebook + 1;
    progress.matched = codebook;
  }
}

void Verification::read_drafts(FrameDecoder& decoder, std::span<const DraftedSong> songs) {
  const auto list_alive = [&] {
    opened_.clear();
    for (size_t s = 0; s < songs.size(); ++s) {
      for (int64_t i = 0; i < read_of(songs[s], progress_[s].alive); ++i) opened_.push_back(songs[s].first + i);
    }
    return !opened_.empty();
  };
  if (!list_alive()) return;
  drafts_.clear();
  for (size_t s = 0; s < songs.size(); ++s) {
    const auto read = songs[s].drafts.first(static_cast<size_t>(read_of(songs[s], progress_[s].alive)));
    drafts_.insert(drafts_.end(), read.begin(), read.end());
  }
  decoder.read_drafts(opened_, drafts_);
  ++passes_;
  for (int64_t codebook = 1; codebook < kCodebooks && list_alive(); ++codebook) {
    decoder.sample_drafted(codebook, opened_);
    const std::span<const Frame> codes = decoder.read_codes();
    for (size_t s = 0; s < songs.size(); ++s) {
      if (progress_[s].alive == 0) continue;
      progress_[s].riders_known = codebook + 1;
      compare(songs[s], progress_[s], codebook, codes);
    }
  }
}

// Code after code of the frame behind those that stand, and of riders.
void Verification::finish(FrameDecoder& decoder, std::span<const DraftedSong> songs) {
  for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) {
    opened_.clear();
    for (size_t s = 0; s < songs.size(); ++s) {
      const Progress& progress = progress_[s];
      const int64_t head = songs[s].first + progress.alive;
      if (progress.known <= codebook) opened_.push_back(head);
      if (!songs[s].rides || progress.riders_known > codebook) continue;
      for (int64_t i = progress.alive + 1; i < std::ssize(songs[s].drafts); ++i) opened_.push_back(songs[s].first + i);
    }
    if (opened_.empty()) continue;
    decoder.sample_next(codebook, opened_);
    ++passes_;
  }
}

}  // namespace heartmula

#include <algorithm>
#include <array>
#include <unordered_map>

#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

/// How often tokens followed one.
struct Followers {
  std::vector<int32_t> tokens;
  std::vector<double> counts;

  void add(int32_t token) {
    const auto known = std::ranges::find(tokens, token);
    if (known != tokens.end()) {
      counts[static_cast<size_t>(known - tokens.begin())] += 1;
      return;
    }
    tokens.push_back(token);
    counts.push_back(1);
  }
};

/// Code 0 follows code 0 of the frame before, and every other code the one before it in its frame.
class BigramDrafter final : public Drafter {
 public:
  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    Frame frame = task.frames.back();
    read(task.frames);
    for (auto number = std::ssize(task.frames); std::ssize(drafts) < task.most; ++number) {
      frame[0] = follower(task, number, 0, frame[0]);
      complete(task, number, 1, frame);
      drafts.push_back(frame);
    }
  }
  bool completes() const override { return true; }
  void complete(const DraftTask& task, int64_t number, int64_t known, Frame& frame) override {
    read(task.frames);
    for (auto q = static_cast<size_t>(known); q < frame.size(); ++q) {
      frame[q] = follower(task, number, q, frame[q - 1]);
    }
  }

 private:
  /// Of `code` in the table of codebook q, or 0.
  int32_t follower(const DraftTask& task, int64_t number, size_t q, int32_t code) const {
    const auto followers = tables_[q].find(code);
    if (followers == tables_[q].end()) return 0;
    return drawn_code(followers->second.tokens, followers->second.counts, task.noise, number, static_cast<int64_t>(q));
  }

  void read(std::span<const Frame> frames) {
    for (; read_ < frames.size(); ++read_) {
      const Frame& frame = frames[read_];
      if (read_ > 0) tables_[0][frames[read_ - 1][0]].add(frame[0]);
      for (size_t q = 1; q < frame.size(); ++q) tables_[q][frame[q - 1]].add(frame[q]);
    }
  }

  std::array<std::unordered_map<int32_t, Followers>, kCodebooks> tables_;
  size_t read_ = 0;
};

}  // namespace

std::unique_ptr<Drafter> make_bigram_drafter() {
  return std::make_unique<BigramDrafter>();
}

}  // namespace heartmula

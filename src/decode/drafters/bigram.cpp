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
    read(task.frames);
    Frame before = task.frames.back();
    for (size_t number = task.frames.size(); std::ssize(drafts) < task.most; ++number) {
      Frame frame = before;  // where nothing is known, the code stays
      for (size_t q = 0; q < frame.size(); ++q) {
        const auto followers = tables_[q].find(q == 0 ? before[0] : frame[q - 1]);
        if (followers == tables_[q].end()) continue;
        const Followers& known = followers->second;
        frame[q] = coupled_choice(known.tokens, known.counts, task.noise, static_cast<int64_t>(number),
                                  static_cast<int64_t>(q));
      }
      drafts.push_back(frame);
      before = frame;
    }
  }

 private:
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

#include <map>

#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

/// The published pool holds what argmax Jacobi iterations said; here riders are sampled with the song's noise, for at
/// the entropy of music argmax is hardly ever right (decoding.md 2.2). Frames of the song are in the pool, too.
class NgramDrafter final : public Drafter {
 public:
  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    for (; read_ + 1 < task.frames.size(); ++read_) pool_[task.frames[read_]] = task.frames[read_ + 1];
    Frame last = task.frames.back();
    while (std::ssize(drafts) < task.most) {
      const auto next = pool_.find(last);
      if (next != pool_.end()) {
        drafts.push_back(last = next->second);
        continue;
      }
      const size_t rider = drafts.size();
      if (rider >= riders_.size()) break;
      drafts.push_back(last = riders_[rider]);
    }
    drafts.resize(static_cast<size_t>(task.most), drafts.empty() ? task.frames.back() : drafts.back());
  }
  void learn(const DraftTask& /*task*/, const DraftVerdict& verdict) override {
    riders_.assign(verdict.riders.begin(), verdict.riders.end());
    for (size_t i = 1; i < riders_.size(); ++i) pool_[riders_[i - 1]] = riders_[i];
  }
  bool rides() const override { return true; }

 private:
  std::map<Frame, Frame> pool_;  // what followed a frame last
  std::vector<Frame> riders_;
  size_t read_ = 0;
};

}  // namespace

std::unique_ptr<Drafter> make_ngram_drafter() {
  return std::make_unique<NgramDrafter>();
}

}  // namespace heartmula

#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

class RidersDrafter final : public Drafter {
 public:
  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    drafts = riders_;
    drafts.resize(static_cast<size_t>(task.most), drafts.empty() ? task.frames.back() : drafts.back());
  }
  // The frame that stands now was not among them: what rode behind it is about the frames that follow.
  void learn(const DraftTask& /*task*/, const DraftVerdict& verdict) override {
    riders_.assign(verdict.riders.begin(), verdict.riders.end());
  }
  bool rides() const override { return true; }

 private:
  std::vector<Frame> riders_;
};

}  // namespace

std::unique_ptr<Drafter> make_riders_drafter() {
  return std::make_unique<RidersDrafter>();
}

}  // namespace heartmula

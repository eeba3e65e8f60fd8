#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

class PreviousDrafter final : public Drafter {
 public:
  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    drafts.assign(static_cast<size_t>(task.most), task.frames.back());
  }
};

}  // namespace

std::unique_ptr<Drafter> make_previous_drafter() {
  return std::make_unique<PreviousDrafter>();
}

}  // namespace heartmula

#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

class EarlyExitDrafter final : public Drafter {
 public:
  explicit EarlyExitDrafter(int64_t layers) : layers_(layers) {}

  // Keys and values that this leaves behind are written again when the drafts are verified.
  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    fed_.assign(1, {task.place, task.frames.back()});
    FrameDecoder& decoder = task.batch.decoder();
    while (std::ssize(drafts) < task.most) {
      task.batch.open(fed_, {}, layers_);
      const int64_t last = std::ssize(fed_) - 1;
      decoder.sample_first();
      for (int64_t codebook = 1; codebook < kCodebooks; ++codebook) decoder.sample_next(codebook, {&last, 1});
      drafts.push_back(decoder.read_codes().back());
      fed_.push_back({task.place, drafts.back()});
    }
  }

 private:
  int64_t layers_;
  std::vector<FedFrame> fed_;
};

}  // namespace

std::unique_ptr<Drafter> make_early_exit_drafter(int64_t layers) {
  return std::make_unique<EarlyExitDrafter>(layers);
}

}  // namespace heartmula

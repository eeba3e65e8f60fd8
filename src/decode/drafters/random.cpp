#include "base/random.h"

#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

constexpr uint64_t kRandomKey = 0x72616e646f6d;

class RandomDrafter final : public Drafter {
 public:
  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    const auto vocabulary = static_cast<uint32_t>(task.batch.model().config.audio_vocab_size);
    for (size_t number = task.frames.size(); std::ssize(drafts) < task.most; ++number) {
      Frame& draft = drafts.emplace_back();
      for (size_t q = 0; q < draft.size(); ++q) {
        const auto words =
            philox4x32({static_cast<uint32_t>(q), static_cast<uint32_t>(number), 0, 0}, philox_key(kRandomKey));
        draft[q] = static_cast<int32_t>(words[0] % vocabulary);
      }
    }
  }
};

}  // namespace

std::unique_ptr<Drafter> make_random_drafter() {
  return std::make_unique<RandomDrafter>();
}

}  // namespace heartmula

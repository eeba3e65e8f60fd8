#include "base/random.h"
#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

constexpr uint64_t kKey = 0x6f7261636c65;

class OracleDrafter final : public Drafter {
 public:
  OracleDrafter(std::vector<Frame> song, double right) : song_(std::move(song)), right_(right) {}

  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    const auto vocabulary = static_cast<int32_t>(task.batch.model().config.audio_vocab_size);
    for (size_t number = task.frames.size(); number < song_.size() && std::ssize(drafts) < task.most; ++number) {
      Frame& draft = drafts.emplace_back(song_[number]);
      for (size_t q = 0; q < draft.size(); ++q) {
        const auto words =
            philox4x32({static_cast<uint32_t>(q), static_cast<uint32_t>(number), 0, 0}, philox_key(kKey));
        if (open_uniform(words[0]) >= right_) draft[q] = (draft[q] + 1) % vocabulary;
      }
    }
  }

 private:
  std::vector<Frame> song_;
  double right_;
};

}  // namespace

std::unique_ptr<Drafter> make_oracle_drafter(std::vector<Frame> song, double right) {
  return std::make_unique<OracleDrafter>(std::move(song), right);
}

}  // namespace heartmula

#include "base/random.h"
#include "decode/drafters/drafters.h"

namespace heartmula {
namespace {

constexpr uint64_t kOracleKey = 0x6f7261636c65;

class OracleDrafter final : public Drafter {
 public:
  OracleDrafter(std::vector<Frame> song, double right) : song_(std::move(song)), right_(right) {}

  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    for (auto number = std::ssize(task.frames); number < std::ssize(song_) && std::ssize(drafts) < task.most;
         ++number) {
      complete(task, number, 0, drafts.emplace_back());
    }
  }
  bool completes() const override { return true; }
  void complete(const DraftTask& task, int64_t number, int64_t known, Frame& frame) override {
    if (number >= std::ssize(song_)) return;
    const auto vocabulary = static_cast<int32_t>(task.batch.model().config.audio_vocab_size);
    const Frame& truth = song_[static_cast<size_t>(number)];
    for (auto q = static_cast<size_t>(known); q < frame.size(); ++q) {
      const auto words =
          philox4x32({static_cast<uint32_t>(q), static_cast<uint32_t>(number), 0, 0}, philox_key(kOracleKey));
      frame[q] = open_uniform(words[0]) < right_ ? truth[q] : (truth[q] + 1) % vocabulary;
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

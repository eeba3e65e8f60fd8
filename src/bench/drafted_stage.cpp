#include "bench/drafted_stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "decode/drafters/drafters.h"

namespace heartmula::bench {
namespace {

constexpr int64_t kMadeFrames = 24;  // of each measurement, at least

LmBatchSize size_of(const LmConfig& config, int64_t context, int64_t most_drafts) {
  const int64_t positions = context + kMadeFrames + 2 * (most_drafts + 1) + 1;
  if (positions > config.backbone.max_seq_len) {
    throw user_error("--context {} with {} drafts takes {} positions, but the model has {}", context, most_drafts,
                     positions, config.backbone.max_seq_len);
  }
  return {.streams = kRowsOfSong, .positions = positions, .frames = std::max<int64_t>(2, 1 + most_drafts), .piece = 1};
}

/// Right by chance, after another drafter has computed.
class PayingOracle final : public Drafter {
 public:
  PayingOracle(std::unique_ptr<Drafter> oracle, std::unique_ptr<Drafter> computes)
      : oracle_(std::move(oracle)), computes_(std::move(computes)) {}

  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    computes_->propose(task, drafts);
    drafts.clear();
    oracle_->propose(task, drafts);
  }
  bool completes() const override { return true; }
  void complete(const DraftTask& task, int64_t number, int64_t known, Frame& frame) override {
    Frame computed = frame;
    computes_->complete(task, number, known, computed);
    oracle_->complete(task, number, known, frame);
  }
  void learn(const DraftTask& task, const DraftVerdict& verdict) override { computes_->learn(task, verdict); }

 private:
  std::unique_ptr<Drafter> oracle_;
  std::unique_ptr<Drafter> computes_;
};

}  // namespace

DraftedFrames::DraftedFrames(Ops& ops, WorkMeter& meter, const HeartMula& model, int64_t context, int64_t most_drafts,
                             std::shared_ptr<const DraftModel> draft_model)
    : meter_(meter),
      model_(model),
      context_(context),
      batch_(ops, model, size_of(model.config, context, most_drafts)),
      draft_model_(std::move(draft_model)) {
  song_ = make(nullptr, 0, kMadeFrames + most_drafts + 1).frames;
}

// At least `frames` frames of the song.
DraftedFrames::Made DraftedFrames::make(Drafter* drafter, int64_t drafts, int64_t frames) {
  Made made;
  batch_.enter(0, kRowsOfSong, batch_.ops().make_sampler(rule_, noise_));
  batch_.jump_to(0, context_);
  std::vector<FedFrame> fed;
  std::vector<Frame> drafted;
  Verification verification;
  const auto task = [&](int64_t most) { return DraftTask{made.frames, most, rule_, noise_, batch_, 0}; };
  const Clock::time_point begin = Clock::now();
  while (std::ssize(made.frames) < frames) {
    drafted.clear();
    if (drafter != nullptr && drafts > 0) drafter->propose(task(drafts), drafted);
    fed.assign(1, {0, made.frames.empty() ? Frame{} : made.frames.back()});
    for (const Frame& draft : drafted) fed.push_back({0, draft});
    batch_.open(fed, {});
    DraftedSong song{.first = 0, .drafts = drafted};
    if (drafter != nullptr) {
      song.complete = [&](int64_t i, int64_t known, Frame& frame) {
        drafter->complete(task(0), std::ssize(made.frames) + i, known, frame);
      };
    }
    const DraftVerdict verdict = verification.run(batch_.decoder(), {&song, 1})[0];
    if (drafter != nullptr) drafter->learn(task(0), verdict);
    made.frames.insert(made.frames.end(), verdict.frames.begin(), verdict.frames.end());
    batch_.keep(0, std::ssize(verdict.frames));
    made.passes += verification.passes();
    ++made.steps;
  }
  made.seconds = seconds_since(begin);
  return made;
}

Stage DraftedFrames::measure(double right, int64_t drafts) {
  std::unique_ptr<Drafter> oracle = make_oracle_drafter(song_, right);
  if (draft_model_) {
    oracle = std::make_unique<PayingOracle>(std::move(oracle), make_learned_drafter(draft_model_, drafts > 0));
  }
  meter_.take();
  const Made made = make(oracle.get(), drafts, kMadeFrames);
  const auto count = static_cast<double>(made.frames.size());
  if (!std::equal(made.frames.begin(), made.frames.end(), song_.begin())) {
    throw failure("with {} drafts the song is another one: please report this", drafts);
  }
  Stage stage =
      stage_of("drafted", model_.dtype,
               fmt::format("oracle:{}{}, {} drafts: {:.2f} frames a step, {:.1f} depth passes a frame", right,
                           draft_model_ ? " that computes" : "", drafts, count / static_cast<double>(made.steps),
                           static_cast<double>(made.passes) / count));
  stage.seconds.values.push_back(made.seconds / count);
  stage.work = work_of(meter_.take()) * (1 / count);
  return stage;
}

}  // namespace heartmula::bench

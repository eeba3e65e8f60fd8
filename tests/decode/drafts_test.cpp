// Whoever drafts, and however much: the song is the same.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/testing.h"
#include "checkpoint/models.h"
#include "decode/draft_settings.h"
#include "decode/drafters/drafters.h"
#include "decode/frame_loop.h"

namespace heartmula {
namespace {

constexpr int32_t kEndCode = 66;

/// The smallest golden checkpoint, and songs of it.
class Drafts : public testing::TestWithParam<DType> {
 protected:
  Drafts()
      : models_({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .mula_dtype = GetParam()},
                 .machine = {.threads = 2}},
                CheckpointParts::kAll, nullptr) {
    for (const char* lyrics : {"[verse]\nla la la", "", "[chorus]\noh what a song"}) {
      prompts_.push_back(make_prompt(models_.tokenizer(), models_.gen_config(), "piano,happy", lyrics));
      noises_.emplace_back(prompts_.size());
    }
    for (size_t song = 0; song < prompts_.size(); ++song) alone_.push_back(make({song}, {})[0]);
  }

  using MakeDrafter = std::function<std::vector<std::unique_ptr<Drafter>>(size_t song)>;

  FrameLoopSettings settings(size_t song) const {
    return {.sampling = {.temperature = song == 2 ? 0.3F : 1.0F, .guidance = song == 1 ? 1.0F : 1.5F},
            .max_audio_length_ms = (20 + 7 * static_cast<int64_t>(song)) * kFrameMs,
            .audio_eos_id = kEndCode,
            .min_audio_length_ms = 12 * kFrameMs,
            .lossy = lossy_};
  }

  std::vector<std::vector<Frame>> make(const std::vector<size_t>& songs, const MakeDrafter& drafter, int64_t most = 0,
                                       bool always = true, std::span<const Frame> begin = {}) {
    LmBatch batch(models_.lm_ops(), models_.lm(),
                  {.songs = std::ssize(songs), .positions = 400, .frames = std::max<int64_t>(2, 1 + most)});
    const std::vector<DraftArm> arms = {{.is_watched = true}, {.is_watched = false, .least_frames = 2}};
    FrameLoop loop(batch, always ? DraftController::always(most) : DraftController(arms, most));
    std::vector<std::vector<Frame>> frames(songs.size());
    for (size_t i = 0; i < songs.size(); ++i) {
      frames[i].assign(begin.begin(), begin.end());
      loop.enter({.prompt = &prompts_[songs[i]],
                  .begin = frames[i],
                  .settings = settings(songs[i]),
                  .noise = &noises_[songs[i]],
                  .groups = &models_.code_groups(),
                  .drafters = drafter ? drafter(songs[i]) : std::vector<std::unique_ptr<Drafter>>(),
                  .frame =
                      [&frames, i](int64_t number, const Frame& frame) {
                        EXPECT_EQ(number, std::ssize(frames[i]));
                        frames[i].push_back(frame);
                      },
                  .ended = [](StopReason) {},
                  .failed = [](std::exception_ptr error) { std::rethrow_exception(error); }});
    }
    while (loop.step()) {
    }
    counts_ = loop.draft_counts();
    return frames;
  }

  MakeDrafter named(const std::string& name) {
    return [this, name](size_t song) {
      DraftSettings drafts = DraftSettings::parse("--drafter", name);
      if (drafts.kind == DrafterKind::kOracle) drafts.song = alone_[song];
      return drafts.make_drafters(models_.lm_config());
    };
  }

  Models models_;
  std::vector<Prompt> prompts_;
  std::vector<PhiloxNoise> noises_;
  std::vector<std::vector<Frame>> alone_;
  DraftCounts counts_;
  LossyAcceptance lossy_ = LossyAcceptance::kNone;
};

TEST_P(Drafts, every_drafter_leaves_the_song_as_it_is) {
  for (const char* name : {"oracle:1", "oracle:0.9", "oracle:0.5", "oracle:0", "random", "previous", "bigram", "riders",
                           "ngram", "early_exit", "early_exit:1", "auto"}) {
    for (const int64_t most : {0, 1, 2, 3, 7, 31}) {
      EXPECT_EQ(make({0}, named(name), most)[0], alone_[0]) << name << ", " << most;
    }
    const auto together = make({0, 1, 2}, named(name), 3);
    EXPECT_EQ(together, alone_) << name;
  }
}

TEST_P(Drafts, songs_with_and_without_drafts_share_passes) {
  const auto mixed = [this](size_t song) {
    return song == 1 ? std::vector<std::unique_ptr<Drafter>>() : named("oracle:0.8")(song);
  };
  EXPECT_EQ(make({0, 1, 2}, mixed, 2), alone_);
  EXPECT_EQ(make({2, 1}, mixed, 4), (std::vector{alone_[2], alone_[1]}));
}

TEST_P(Drafts, a_song_that_goes_on_is_the_same) {
  const auto begin = std::span(alone_[0]).first(6);
  for (const char* name : {"oracle:0.9", "bigram", "riders"}) {
    EXPECT_EQ(make({0}, named(name), 3, true, begin)[0], alone_[0]) << name;
  }
}

TEST_P(Drafts, a_perfect_oracle_is_accepted_whole) {
  make({0}, named("oracle:1"), 3);
  EXPECT_EQ(counts_.accepted_frames, counts_.drafted_frames);
  // The first frame follows the prompt alone; the last one is never drafted behind.
  EXPECT_EQ(counts_.drafted_steps, 1 + (std::ssize(alone_[0]) - 1 + 3) / 4);
  make({0}, named("oracle:0"), 3);
  EXPECT_EQ(counts_.accepted_frames, 0);
  const bool by_itself = std::ssize(alone_[0]) < settings(0).max_frames();  // then the frame that ends it is made, too
  EXPECT_EQ(counts_.drafted_steps, std::ssize(alone_[0]) + (by_itself ? 1 : 0));
}

TEST_P(Drafts, the_controller_may_change_its_mind_and_not_the_song) {
  for (const char* name : {"oracle:1", "oracle:0.7", "random", "auto"}) {
    EXPECT_EQ(make({0, 1, 2}, named(name), 3, false), alone_) << name;
  }
}

/// Lies about its drafts in every way that there is.
class Saboteur final : public Drafter {
 public:
  explicit Saboteur(int64_t kind) : kind_(kind) {}
  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    ++calls_;
    drafts.assign(static_cast<size_t>(task.most), task.frames.back());
    if (kind_ == 0) drafts.resize(50);                                    // more than was asked for
    if (kind_ == 1) drafts.back()[static_cast<size_t>(calls_ % 8)] = -1;  // no code
    if (kind_ == 2) drafts.front()[5] = 1 << 30;
    if (kind_ == 3 && calls_ == 4) throw std::runtime_error("no more ideas");
    if (kind_ == 4) drafts.clear();
  }
  void learn(const DraftTask& /*task*/, const DraftVerdict& /*verdict*/) override {
    if (kind_ == 5 && calls_ == 3) throw user_error("cannot learn");
  }
  bool rides() const override { return calls_ % 2 == 0; }
  bool completes() const override { return kind_ > 2; }
  void complete(const DraftTask& /*task*/, int64_t number, int64_t known, Frame& frame) override {
    frame.fill(kind_ == 4 ? 1 << 20 : 3);  // what is known, too
    if (kind_ == 5 && number > 5 && known > 2) throw std::runtime_error("no rest");
  }

 private:
  int64_t kind_;
  int64_t calls_ = 0;
};

TEST_P(Drafts, sabotage_changes_nothing) {
  for (int64_t kind = 0; kind < 6; ++kind) {
    const auto saboteur = [&](size_t) {
      std::vector<std::unique_ptr<Drafter>> drafters;
      drafters.push_back(std::make_unique<Saboteur>(kind));
      return drafters;
    };
    EXPECT_EQ(make({0, 1, 2}, saboteur, 3), alone_) << kind;
  }
}

TEST_P(Drafts, lossy_songs_are_others_and_the_same_in_any_company) {
  for (const LossyAcceptance lossy :
       {LossyAcceptance::kTopk, LossyAcceptance::kTypical, LossyAcceptance::kTolerance, LossyAcceptance::kGroup}) {
    lossy_ = lossy;
    const bool is_rare = lossy == LossyAcceptance::kGroup || lossy == LossyAcceptance::kTolerance;
    int others = 0;
    for (const char* name : {"oracle:0.9", "oracle:0.8", "oracle:0.5", "bigram", "riders", "previous"}) {
      const auto together = make({0, 1, 2}, named(name), 2);
      others += together != alone_ ? 1 : 0;
      for (const size_t song : {0, 1, 2}) EXPECT_EQ(make({song}, named(name), 2)[0], together[song]) << name;
    }
    EXPECT_GE(others, is_rare ? 1 : 6);
    auto right = make({0, 1, 2}, named("oracle:1"), 2);
    for (size_t song = 0; song < right.size(); ++song) right[song].resize(alone_[song].size());  // it knows no more
    EXPECT_EQ(right, alone_);
  }
}

TEST_P(Drafts, every_guess_that_might_be_drawn_is_taken_as_topk) {
  make({0}, named("random"), 1);
  const int64_t exact = counts_.accepted_frames;
  lossy_ = LossyAcceptance::kTopk;  // 50 of 69 codes
  make({0}, named("random"), 1);
  EXPECT_GT(counts_.accepted_frames, exact);
}

INSTANTIATE_TEST_SUITE_P(Weights, Drafts, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& weights) { return weights.param == DType::kF32 ? "f32" : "bf16"; });

TEST(DraftSettings, words_are_read_and_told) {
  for (const char* text : {"auto", "none", "bigram", "previous", "riders", "ngram", "early_exit", "early_exit:3",
                           "random", "oracle:0.7"}) {
    EXPECT_EQ(DraftSettings::parse("--drafter", text).text(), text);
  }
  for (const char* text : {"", "Auto", "eagle", "oracle:2", "oracle:-1", "oracle:x", "oracle:nan", "early_exit:0",
                           "bigram:1", "oracle:"}) {
    EXPECT_EQ(error_of(ErrorKind::kUser, [&] { DraftSettings::parse("--drafter", text); }).rfind("--drafter", 0), 0U)
        << text;
  }
}

TEST(DraftSettings, an_early_exit_is_within_the_backbone) {
  LmConfig config;
  config.backbone.num_layers = 4;
  EXPECT_EQ(DraftSettings::parse("--drafter", "early_exit:4").make_drafters(config).size(), 1U);
  const DraftSettings beyond = DraftSettings::parse("--drafter", "early_exit:5");
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { beyond.make_drafters(config); }),
            "--drafter early_exit:5: the backbone has 4 layers");
}

}  // namespace
}  // namespace heartmula

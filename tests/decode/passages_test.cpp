// Songs that are longer than the context: what each passage sees, and that they can be gone on with.
#include "decode/passages.h"

#include <gtest/gtest.h>

#include "base/testing.h"
#include "checkpoint/models.h"
#include "decode/frame_loop.h"

namespace heartmula {
namespace {

Prompt prompt_of(int64_t tokens) {
  return {.text_ids = std::vector<int32_t>(static_cast<size_t>(tokens)), .muq_embed = {}};
}

// No passage sees more than the context holds, each sees at least half of it, and none has fewer frames than it may.
TEST(Passages, slide_within_the_context) {
  const Prompt prompt = prompt_of(30);
  const Chapter whole = {&prompt, 0};
  const std::vector<Passage> passages = passages_of({&whole, 1}, 100, 400);
  ASSERT_GT(passages.size(), 3U);
  EXPECT_EQ(passages.front(), (Passage{&prompt, 0, 0}));
  for (size_t i = 1; i < passages.size(); ++i) {
    // The frame before the last one is the last that is fed.
    EXPECT_EQ(30 + passages[i].begin - 1 - passages[i - 1].past, 100);
    EXPECT_EQ(passages[i].begin - passages[i].past, 35);
  }
  EXPECT_LT(passages.back().begin, 400);
  EXPECT_GE(passages.back().past + 70 + 1, 400);
}

TEST(Passages, of_chapters_have_their_prompts_and_ten_seconds) {
  const std::vector<Prompt> prompts = {prompt_of(20), prompt_of(40), prompt_of(10)};
  const std::vector<Chapter> chapters = {{&prompts[0], 0}, {&prompts[1], 300}, {&prompts[2], 1500}};
  const std::vector<Passage> passages = passages_of(chapters, 1000, 1700);
  EXPECT_EQ(passages[0], (Passage{&prompts[0], 0, 0}));
  EXPECT_EQ(passages[1], (Passage{&prompts[1], 300, 175}));
  EXPECT_EQ(passages[2].prompt, &prompts[1]);  // too long for the context: it slides
  EXPECT_EQ(passages[3], (Passage{&prompts[2], 1500, 1375}));
  EXPECT_EQ(passages.size(), 4U);
  for (const auto& [number, passage] :
       {std::pair{0, 0}, {299, 0}, {300, 1}, {passages[2].begin - 1, 1}, {passages[2].begin, 2}, {1699, 3}}) {
    EXPECT_EQ(passage_at(passages, number), static_cast<size_t>(passage)) << number;
  }
}

TEST(Passages, a_prompt_that_leaves_no_room_is_refused) {
  const Prompt prompt = prompt_of(51);
  const Chapter whole = {&prompt, 0};
  const std::string message = error_of(ErrorKind::kUser, [&] { passages_of({&whole, 1}, 100, 400); });
  EXPECT_NE(message.find("51 tokens"), std::string::npos) << message;
}

class LongSongs : public testing::TestWithParam<bool> {
 protected:
  static constexpr int64_t kContext = 320;
  static constexpr int64_t kFrames = 700;

  LongSongs()
      : models_({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1"}, .machine = {.threads = 2}},
                CheckpointParts::kAll, nullptr) {
    for (const char* lyrics : {"[verse]\nla la", "[chorus]\noh", "[verse]\nna na na"}) {
      prompts_.push_back(make_prompt(models_.tokenizer(), models_.gen_config(), "piano", lyrics));
    }
    std::vector<Chapter> chapters = {{&prompts_[0], 0}};
    if (GetParam()) chapters.insert(chapters.end(), {{&prompts_[1], 150}, {&prompts_[2], 290}});
    passages_ = passages_of(chapters, kContext, kFrames);
  }

  SongFrames song(const std::vector<Frame>& begin, std::vector<Frame>& frames) {
    frames = begin;
    return {.prompt = &prompts_[0],
            .begin = begin,
            .settings = {.sampling = {},
                         .max_audio_length_ms = (kFrames - 1) * kFrameMs,
                         .audio_eos_id = models_.gen_config().audio_eos_id,
                         .ignore_eos = true},
            .noise = &noise_,
            .passages = passages_,
            .frame =
                [&frames](int64_t number, const Frame& frame) {
                  EXPECT_EQ(number, std::ssize(frames));
                  frames.push_back(frame);
                },
            .ended = [](StopReason reason) { EXPECT_EQ(reason, StopReason::kLength); },
            .failed = [](std::exception_ptr error) { std::rethrow_exception(error); }};
  }

  /// `songs` equal ones side by side.
  std::vector<std::vector<Frame>> make(int64_t songs, const DraftSettings& drafts = {},
                                       const std::vector<Frame>& begin = {}, int64_t pages = 0) {
    LmBatch batch(models_.lm_ops(), models_.lm(),
                  {.songs = songs, .positions = kContext, .frames = drafts.frames_of_pass(), .pages = pages});
    FrameLoop loop(batch, drafts.controller());
    std::vector<std::vector<Frame>> made(static_cast<size_t>(songs));
    for (std::vector<Frame>& frames : made) {
      SongFrames work = song(begin, frames);
      work.drafters = drafts.make_drafters(models_.lm_config());
      loop.enter(std::move(work));
    }
    while (loop.step()) {
    }
    return made;
  }

  Models models_;
  std::vector<Prompt> prompts_;
  std::vector<Passage> passages_;
  PhiloxNoise noise_{5};
};

// Each passage by itself, as a song that begins with its past: one frame after the other, read from the beginning.
TEST_P(LongSongs, are_what_their_passages_say) {
  const std::vector<Frame> song = make(1)[0];
  ASSERT_EQ(std::ssize(song), kFrames);
  for (const size_t number : {size_t{1}, size_t{299}, size_t{310}, size_t{500}, size_t{699}}) {
    const Passage& passage = passages_[passage_at(passages_, static_cast<int64_t>(number))];
    LmBatch batch(models_.lm_ops(), models_.lm(), {.positions = kContext});
    const auto rule = SamplingRule{{}, kFrames, models_.gen_config().audio_eos_id};
    batch.enter(0, 2, models_.lm_ops().make_sampler(rule, noise_));
    const std::span<const Frame> past = std::span(song).first(number).subspan(static_cast<size_t>(passage.past));
    const SongBeginning beginning = {passage.prompt->text_ids, passage.prompt->reference_index, {}, past, passage.past};
    while (!batch.prefill(0, beginning, 64)) {
    }
    const int64_t place = 0;
    batch.open({}, {&place, 1});
    batch.decoder().sample_all();
    EXPECT_EQ(batch.decoder().read_codes()[0], song[number]) << number;
  }
}

TEST_P(LongSongs, are_the_same_from_anywhere_in_any_company) {
  const std::vector<Frame> expected = make(1)[0];
  for (const std::vector<Frame>& song : make(3)) EXPECT_EQ(song, expected);
  const int64_t pages_of_one = 2 * pages_of(kContext);
  for (const std::vector<Frame>& song : make(3, {}, {}, pages_of_one + 1)) EXPECT_EQ(song, expected);
  for (const int64_t begin : {1, 149, 150, 151, 289, 300, 321, 480, 699}) {
    EXPECT_EQ(make(1, {}, {expected.begin(), expected.begin() + begin})[0], expected) << begin;
  }
  DraftSettings drafts = DraftSettings::parse("--drafter", "random");
  drafts.frames = 3;
  EXPECT_EQ(make(2, drafts)[1], expected);
}

INSTANTIATE_TEST_SUITE_P(Ways, LongSongs, testing::Bool(),
                         [](const auto& chapters) { return chapters.param ? "chapters" : "slide"; });

}  // namespace
}  // namespace heartmula

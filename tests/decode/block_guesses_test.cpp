// Guesses that are verified as blocks leave the distribution of a frame as it is, whatever they are drawn from.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "checkpoint/models.h"
#include "decode/laws.h"
#include "decode/verification.h"
#include "lm/batch.h"
#include "text/prompt.h"

namespace heartmula {
namespace {

constexpr int64_t kAtOnce = 50;
constexpr int64_t kDraws = 20'000;
constexpr SamplingSettings kSettings = {.topk = 2};

using Codes = std::vector<int32_t>;

/// Many draws of the frames behind one prompt, of the smallest golden checkpoint: `kDrafts` frames behind each other
/// are open for each draw, all with the same hidden states, so that every frame has the law of the first.
class BlockGuesses : public testing::Test {
 protected:
  BlockGuesses()
      : models_({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .mula_dtype = DType::kF32},
                 .machine = {.threads = 1}},
                CheckpointParts::kAll, nullptr) {
    const Prompt prompt = make_prompt(models_.tokenizer(), models_.gen_config(), "piano,happy", "la la la");
    LmBatch batch(models_.lm_ops(), models_.lm(), {.positions = 200});
    batch.enter(0, 2, nullptr);
    while (!batch.prefill(0, {prompt.text_ids, prompt.reference_index, prompt.muq_embed, {}}, 256)) {
    }
    batch.open({}, std::vector<int64_t>{0});
    hidden_.emplace(models_.lm_ops().allocate(DType::kF32, 2, batch.decoder().hidden().cols));
    models_.lm_ops().copy(*hidden_, batch.decoder().hidden().slice_rows(0, 2));
    plain_ = plain(1);
    for (const Frame& frame : plain_) {
      for (size_t q = 0; q < kCodebooks; ++q) {
        CodeChances& chances = behind_[Codes(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(q))];
        const auto place = std::ranges::lower_bound(chances.codes, frame[q]) - chances.codes.begin();
        if (chances.of(frame[q]) == 0) {
          chances.codes.insert(chances.codes.begin() + place, frame[q]);
          chances.chances.insert(chances.chances.begin() + place, 0);
        }
        ++chances.chances[static_cast<size_t>(place)];
      }
    }
    for (auto& [codes, chances] : behind_) {
      const double all = std::accumulate(chances.chances.begin(), chances.chances.end(), 0.0);
      for (double& chance : chances.chances) {
        chance = 0.5 * chance / all + 0.5 / static_cast<double>(chances.chances.size());
      }
    }
  }

  /// call(decoder with the open frames of kAtOnce draws, the first draw).
  template <typename Call>
  void for_each_group(int64_t frames, const Call& call, uint64_t first_seed) {
    Ops& ops = models_.lm_ops();
    FrameDecoder decoder(ops, models_.lm(), 2 * kAtOnce * frames, true);
    for (int64_t i = 0; i < kAtOnce * frames; ++i) ops.copy(decoder.hidden().slice_rows(2 * i, 2), *hidden_);
    for (int64_t first = 0; first < kDraws; first += kAtOnce) {
      std::vector<PhiloxNoise> noises;
      std::vector<std::unique_ptr<CodeSampler>> samplers;
      std::vector<OpenFrame> open;
      noises.reserve(kAtOnce);
      for (int64_t i = 0; i < kAtOnce; ++i) {
        noises.emplace_back(first_seed + static_cast<uint64_t>(first + i));
        samplers.push_back(ops.make_sampler({.settings = kSettings}, noises.back()));
        for (int64_t f = 0; f < frames; ++f) {
          open.push_back(
              {.song = i, .number = f, .row = 2 * (i * frames + f), .streams = 2, .sampler = samplers.back().get()});
        }
      }
      decoder.open(open);
      call(decoder, first);
    }
  }

  std::vector<Frame> plain(uint64_t first_seed) {
    std::vector<Frame> frames(kDraws);
    for_each_group(
        1,
        [&](FrameDecoder& decoder, int64_t first) {
          decoder.sample_all();
          std::ranges::copy(decoder.read_codes(), frames.begin() + first);
        },
        first_seed);
    return frames;
  }

  /// Of the code behind these: half what plain decoding has drawn there, half any of that.
  const CodeChances& chances_behind(const Codes& codes) const {
    static const CodeChances kUnknown = CodeChances::only(0);
    const auto known = behind_.find(codes);
    return known == behind_.end() ? kUnknown : known->second;
  }

  /// The first frame of each draw, with `drafts` frames guessed before their rests are; `seeds` begin there.
  std::vector<std::vector<Frame>> verified(int64_t drafts, uint64_t first_seed) {
    std::vector<std::vector<Frame>> frames(kDraws);
    Verification verification;
    passes_ = 0;
    for_each_group(
        drafts + 1,
        [&](FrameDecoder& decoder, int64_t first) {
          std::vector<std::vector<Frame>> guesses(kAtOnce, std::vector<Frame>(static_cast<size_t>(drafts)));
          std::vector told(kAtOnce, std::vector<FrameChances>(static_cast<size_t>(drafts + 1)));
          std::vector<DraftedSong> songs;
          for (int64_t i = 0; i < kAtOnce; ++i) {
            const uint64_t seed = first_seed + static_cast<uint64_t>(first + i);
            std::vector<FrameChances>& tell = told[static_cast<size_t>(i)];
            const auto draw = [this, &tell, seed](int64_t number, int64_t known, Frame& frame) {
              const RoundNoise noise(seed, RandomDomain::kGuesses, 0, known);
              for (auto q = static_cast<size_t>(known); q < kCodebooks; ++q) {
                CodeChances& chances = tell[static_cast<size_t>(number)][q];
                chances = chances_behind(Codes(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(q)));
                frame[q] = drawn_code(chances.codes, chances.chances, noise, number, static_cast<int64_t>(q));
              }
            };
            std::vector<Frame>& drafted = guesses[static_cast<size_t>(i)];
            for (int64_t f = 0; f < drafts; ++f) draw(f, 0, drafted[static_cast<size_t>(f)]);
            songs.push_back({.first = i * (drafts + 1),
                             .drafts = drafted,
                             .complete = draw,
                             .rule = {.settings = kSettings},
                             .block_seed = seed,
                             .chances = tell});
          }
          const std::span<const DraftVerdict> verdicts = verification.run(decoder, songs);
          passes_ += verification.passes();
          for (size_t i = 0; i < songs.size(); ++i) {
            frames[static_cast<size_t>(first) + i].assign(verdicts[i].frames.begin(), verdicts[i].frames.end());
          }
        },
        first_seed);
    return frames;
  }

  void expect_plain_law(const std::vector<Frame>& frames, const std::string& what) const {
    const auto compare = [&](const std::string& name, const auto& value_of) {
      std::vector<decltype(value_of(Frame()))> one;
      std::vector<decltype(value_of(Frame()))> other;
      for (const Frame& frame : frames) one.push_back(value_of(frame));
      for (const Frame& frame : plain_) other.push_back(value_of(frame));
      expect_same_law(one, other, what + ", " + name);
    };
    for (size_t q = 0; q < kCodebooks; ++q) {
      compare("code " + std::to_string(q), [q](const Frame& frame) { return frame[q]; });
      for (size_t r = 0; r < q; ++r) {
        compare("codes " + std::to_string(r) + " and " + std::to_string(q),
                [q, r](const Frame& frame) { return std::pair(frame[r], frame[q]); });
      }
    }
    compare("frames", [](const Frame& frame) { return frame; });
  }

  Models models_;
  std::optional<Tensor> hidden_;
  std::vector<Frame> plain_;
  std::map<Codes, CodeChances> behind_;
  int64_t passes_ = 0;
};

TEST_F(BlockGuesses, of_a_frames_rest_leave_its_law) {
  std::vector<Frame> frames;
  for (const std::vector<Frame>& made : verified(0, 1'000'000)) frames.push_back(made.at(0));
  expect_plain_law(frames, "rest");
  EXPECT_LT(passes_, kDraws / kAtOnce * 6);
}

// Where no second frame was made with the first, plain decoding makes it.
TEST_F(BlockGuesses, of_whole_frames_leave_their_law) {
  const auto made = verified(2, 2'000'000);
  std::vector<Frame> first;
  std::vector<Frame> second = plain(3'000'000);
  const std::vector<Frame> other = plain(4'000'000);
  std::vector<std::array<int32_t, 4>> across;
  std::vector<std::array<int32_t, 4>> plain_across;
  int64_t together = 0;
  for (size_t i = 0; i < made.size(); ++i) {
    first.push_back(made[i].at(0));
    if (made[i].size() > 1) {
      second[i] = made[i][1];
      ++together;
    }
    across.push_back({first[i][0], first[i][7], second[i][0], second[i][7]});
    plain_across.push_back({plain_[i][0], plain_[i][7], other[i][0], other[i][7]});
  }
  expect_plain_law(first, "first frames");
  expect_plain_law(second, "second frames");
  expect_same_law(across, plain_across, "both");
  EXPECT_GT(together, kDraws / 10);
}

}  // namespace
}  // namespace heartmula

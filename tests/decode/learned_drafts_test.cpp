// Drafters of a file: their guesses beside plain float64, the song unchanged, files that are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/testing.h"
#include "checkpoint/models.h"
#include "decode/draft_settings.h"
#include "decode/drafters/drafters.h"
#include "decode/frame_loop.h"
#include "reference/language_model.h"

namespace heartmula {
namespace {

using nlohmann::json;
using oracle::Array;
using testing::HasSubstr;

constexpr int32_t kEndToken = 66;

json transformer(int64_t width, int64_t positions) {
  return {{"num_layers", 2},    {"num_heads", 4},         {"num_kv_heads", 2},
          {"embed_dim", width}, {"intermediate_dim", 24}, {"max_seq_len", positions}};
}

TransformerConfig sizes(const json& object) {
  return {.num_layers = object["num_layers"],
          .num_heads = object["num_heads"],
          .num_kv_heads = object["num_kv_heads"],
          .embed_dim = object["embed_dim"],
          .intermediate_dim = object["intermediate_dim"],
          .max_seq_len = object["max_seq_len"]};
}

/// A drafter file of random weights.
class RandomDrafter {
 public:
  RandomDrafter(const LmConfig& lm, const std::string& parts) {
    json metadata = {{"version", 1}, {"embed_dim", lm.backbone.embed_dim}, {"audio_vocab_size", lm.audio_vocab_size}};
    config_.embed_dim = lm.backbone.embed_dim;
    config_.audio_vocab_size = lm.audio_vocab_size;
    metadata["depth"] = transformer(16, kCodebooks);
    config_.depth = sizes(metadata["depth"]);
    if (parts == "frame") {
      metadata["frame"] = transformer(24, 20);
      config_.frame = sizes(metadata["frame"]);
    } else if (parts == "medusa") {
      metadata["medusa"] = {{"heads", 2}};
      config_.medusa_heads = 2;
    }
    weights_.emplace(DraftModel::expected_tensors(config_), 11,
                     std::map<std::string, std::string>{{"heartmula_drafter", metadata.dump()}});
  }

  const DraftConfig& config() const { return config_; }
  const RandomCheckpoint& weights() const { return *weights_; }

 private:
  DraftConfig config_;
  std::optional<RandomCheckpoint> weights_;
};

/// In float64 what a drafter file says, from what was kept of the song's past.
class PlainDrafter {
 public:
  PlainDrafter(const RandomDrafter& drafter, Models& models)
      : drafter_(drafter),
        models_(models),
        embeddings_(values("audio_embeddings.weight")),
        head_(values("codebook0_head.weight")) {}

  /// h [1, 2 D] of a frame that stands.
  void add(const std::vector<double>& h, const Frame& frame) { past_.emplace_back(h, frame); }
  void forget() { past_.clear(); }

  std::vector<Frame> propose(const DraftTask& task) const {
    std::vector<Frame> drafts;
    auto past = past_;
    if (past.empty()) return drafts;
    const bool by_heads = !drafter_.config().frame;
    const int64_t most = by_heads ? std::min<int64_t>(task.most, drafter_.config().medusa_heads) : task.most;
    for (int64_t i = 0; i < most; ++i) {
      const std::vector<double> h = by_heads ? by_head(past_.back().first, i) : next(past);
      const auto number = std::ssize(task.frames) + i;
      Frame frame = {};
      frame[0] = draw(task, first_logits(h, task.rule.settings.guidance), number, 0);
      rest(task, h, number, 1, frame);
      drafts.push_back(frame);
      past.emplace_back(h, frame);
    }
    return drafts;
  }

  /// The chance of each code that was drawn since the last call.
  std::vector<double> chances() const { return std::exchange(chances_, {}); }

  void rest(const DraftTask& task, const std::vector<double>& h, int64_t number, int64_t known, Frame& frame) const {
    for (int64_t q = known; q < kCodebooks; ++q) {
      Array x(q + 1, drafter_.config().depth.embed_dim);
      put(x, 0, product(of(h), weights().array("depth.hidden.weight")).values);
      const Array table = weights().array("depth.embeddings.weight");
      for (int64_t j = 1; j <= q; ++j) {
        for (int64_t c = 0; c < x.cols; ++c) {
          x.at(j, c) = table.at((j - 1) * drafter_.config().audio_vocab_size + frame[static_cast<size_t>(j - 1)], c);
        }
      }
      const Array out = oracle::transformer(weights(), drafter_.config().depth, "depth.decoder.", x);
      const Array heads = weights().array("depth.heads");  // [7, d V]
      std::vector<double> logits(static_cast<size_t>(drafter_.config().audio_vocab_size));
      for (size_t v = 0; v < logits.size(); ++v) {
        for (int64_t d = 0; d < out.cols; ++d) {
          logits[v] += out.at(q, d) * heads.at(q - 1, d * std::ssize(logits) + static_cast<int64_t>(v));
        }
      }
      frame[static_cast<size_t>(q)] = draw(task, logits, number, q);
    }
  }

 private:
  using Past = std::vector<std::pair<std::vector<double>, Frame>>;

  const RandomCheckpoint& weights() const { return drafter_.weights(); }
  Array values(const char* name) const {
    const StoredTensor& tensor = models_.lm_store().get(name);
    Array array(tensor.shape[0], tensor.shape[1]);
    const std::vector<float> floats = WeightLoader(models_.lm_ops(), models_.lm_store(), DType::kF32).values(name);
    std::ranges::copy(floats, array.values.begin());
    return array;
  }
  static Array of(const std::vector<double>& row) {
    Array array(1, std::ssize(row));
    array.values = row;
    return array;
  }
  static void put(Array& x, int64_t row, const std::vector<double>& values) {
    std::ranges::copy(values, x.values.begin() + row * x.cols);
  }

  std::vector<double> next(const Past& past) const {
    const int64_t width = drafter_.config().embed_dim;
    Array in(std::ssize(past), 3 * width);
    for (int64_t i = 0; i < in.rows; ++i) {
      const auto& [h, frame] = past[static_cast<size_t>(i)];
      std::ranges::copy(h, in.values.begin() + i * in.cols);
      for (int64_t q = 0; q < kCodebooks; ++q) {
        const int64_t entry = q * drafter_.config().audio_vocab_size + frame[static_cast<size_t>(q)];
        for (int64_t c = 0; c < width; ++c) in.at(i, 2 * width + c) += embeddings_.at(entry, c);
      }
    }
    const Array out = oracle::transformer(weights(), *drafter_.config().frame, "frame.decoder.",
                                          product(in, weights().array("frame.input.weight")));
    const std::vector<double> last(out.values.end() - out.cols, out.values.end());
    return oracle::sum(of(past.back().first), product(of(last), weights().array("frame.output.weight"))).values;
  }

  std::vector<double> by_head(const std::vector<double>& h, int64_t head) const {
    const int64_t width = drafter_.config().embed_dim;
    Array rows(2, width);
    rows.values = h;
    Array moved = product(rows, weights().array("medusa." + std::to_string(head) + ".weight"));
    for (double& value : moved.values) value = oracle::silu(value);
    return oracle::sum(rows, moved).values;
  }

  std::vector<double> first_logits(const std::vector<double>& h, double guidance) const {
    Array guided(1, drafter_.config().embed_dim);
    for (int64_t c = 0; c < guided.cols; ++c) {
      const double conditional = h[static_cast<size_t>(c)];
      const double unconditional = h[static_cast<size_t>(guided.cols + c)];
      guided.at(0, c) = unconditional + guidance * (conditional - unconditional);
    }
    return product(guided, head_).values;
  }

  int32_t draw(const DraftTask& task, const std::vector<double>& logits, int64_t number, int64_t codebook) const {
    SamplingSettings settings = task.rule.settings;
    settings.guidance = 1;
    const std::vector<float> floats(logits.begin(), logits.end());
    const int64_t allowed = std::min(std::ssize(floats), task.rule.allowed(number));
    const int32_t code = Sampler(settings, task.noise)
                             .sample(floats, static_cast<uint32_t>(number), static_cast<uint32_t>(codebook), allowed);
    std::vector<double> kept(logits.begin(), logits.begin() + allowed);
    std::ranges::sort(kept, std::greater<>());
    kept.resize(std::min(kept.size(), static_cast<size_t>(settings.topk)));
    double total = 0;
    for (const double logit : kept) total += std::exp((logit - kept[0]) / settings.temperature);
    chances_.push_back(std::exp((logits[static_cast<size_t>(code)] - kept[0]) / settings.temperature) / total);
    return code;
  }

  const RandomDrafter& drafter_;
  Models& models_;
  Array embeddings_;
  Array head_;
  Past past_;
  mutable std::vector<double> chances_;
};

/// Compares each guess with the plain one.
class CheckedDrafter final : public Drafter {
 public:
  CheckedDrafter(std::unique_ptr<Drafter> drafter, PlainDrafter plain, int64_t capacity, int64_t& guesses)
      : drafter_(std::move(drafter)), plain_(std::move(plain)), capacity_(capacity), guesses_(guesses) {}

  void propose(const DraftTask& task, std::vector<Frame>& drafts) override {
    drafter_->propose(listening(task), drafts);
    // It forgets the past when there is no more room, but for what came last.
    if (read_ + told_.size() + static_cast<size_t>(task.most) > static_cast<size_t>(capacity_)) {
      plain_.forget();
      read_ = 0;
    }
    for (const auto& [h, frame] : told_) plain_.add(h, frame);
    if (!told_.empty() && task.most > 0) {
      EXPECT_EQ(drafts, plain_.propose(task));
      guesses_ += std::ssize(drafts);
      expect_told_chances(task);
    }
    if (task.most > 0) {
      read_ += told_.size();
      told_.clear();
    }
  }
  bool completes() const override { return true; }
  void complete(const DraftTask& task, int64_t number, int64_t known, Frame& frame) override {
    Frame plain = frame;
    drafter_->complete(listening(task), number, known, frame);
    for (const OpenFrame& open : task.batch.decoder().open_frames()) {
      if (open.song == task.place && open.number == number) plain_.rest(task, hidden(task, open), number, known, plain);
    }
    EXPECT_EQ(frame, plain) << "frame " << number << " behind " << known;
    ++guesses_;
    expect_told_chances(task);
  }
  void learn(const DraftTask& task, const DraftVerdict& verdict) override {
    told_.clear();
    size_t next = 0;
    for (const OpenFrame& open : task.batch.decoder().open_frames()) {
      if (open.song != task.place || next == verdict.frames.size()) continue;
      told_.emplace_back(hidden(task, open), verdict.frames[next++]);
    }
    drafter_->learn(task, verdict);
  }
  bool tells_chances() const override { return drafter_->tells_chances(); }

 private:
  DraftTask listening(const DraftTask& task) {
    DraftTask heard = task;
    if (!task.tell) return heard;
    heard.tell = [this, &task](int64_t number, int64_t codebook, CodeChances chances) {
      const int32_t code = drawn_code(chances.codes, chances.chances, task.noise, number, codebook);
      told_chances_.push_back(chances.of(code));
      EXPECT_NEAR(std::accumulate(chances.chances.begin(), chances.chances.end(), 0.0), 1, 1e-9);
      task.tell(number, codebook, std::move(chances));
    };
    return heard;
  }

  void expect_told_chances(const DraftTask& task) {
    const std::vector<double> plain = plain_.chances();
    const std::vector<double> told = std::exchange(told_chances_, {});
    if (task.tell) {
      EXPECT_THAT(told, testing::Pointwise(testing::DoubleNear(1e-4), plain));
    }
  }

  static std::vector<double> hidden(const DraftTask& task, const OpenFrame& open) {
    const ConstView rows = task.batch.decoder().hidden().slice_rows(open.row, open.streams);
    std::vector<float> values(static_cast<size_t>(rows.rows * rows.cols));
    task.batch.ops().download(values, rows);
    std::vector<double> h(values.begin(), values.end());
    if (open.streams == 1) h.insert(h.end(), values.begin(), values.end());
    return h;
  }

  std::unique_ptr<Drafter> drafter_;
  PlainDrafter plain_;
  int64_t capacity_;
  int64_t& guesses_;
  std::vector<std::pair<std::vector<double>, Frame>> told_;
  size_t read_ = 0;
  std::vector<double> told_chances_;
};

class LearnedDrafts : public testing::TestWithParam<const char*> {
 protected:
  LearnedDrafts() : drafter_(models_.lm_config(), GetParam()) {
    for (const char* lyrics : {"[verse]\nla la la", "", "[chorus]\noh what a song"}) {
      prompts_.push_back(make_prompt(models_.tokenizer(), models_.gen_config(), "piano,happy", lyrics));
      noises_.emplace_back(prompts_.size());
    }
    file_ = DraftFile::open(drafter_.weights().path(), models_.lm_config());
    model_ = std::make_shared<DraftModel>(DraftModel::load(models_.lm_ops(), *file_, DType::kF32));
  }

  using MakeDrafters = std::function<std::vector<std::unique_ptr<Drafter>>(size_t song)>;

  std::vector<std::vector<Frame>> make(const std::vector<size_t>& songs, const MakeDrafters& drafters, int64_t most,
                                       const DraftController& controller, std::span<const Frame> begin = {}) {
    LmBatch batch(models_.lm_ops(), models_.lm(),
                  {.songs = std::ssize(songs), .positions = 400, .frames = std::max<int64_t>(2, 1 + most)});
    FrameLoop loop(batch, controller);
    std::vector<std::vector<Frame>> frames(songs.size());
    for (size_t i = 0; i < songs.size(); ++i) {
      loop.enter({.prompt = &prompts_[songs[i]],
                  .begin = {begin.begin(), begin.end()},
                  .settings = {.sampling = {.temperature = songs[i] == 2 ? 0.3F : 1.0F,
                                            .guidance = songs[i] == 1 ? 1.0F : 1.5F},
                               .max_audio_length_ms = 34 * kFrameMs,
                               .audio_eos_id = kEndToken,
                               .ignore_eos = true,
                               .verification = verification_},
                  .noise = &noises_[songs[i]],
                  .drafters = drafters ? drafters(songs[i]) : std::vector<std::unique_ptr<Drafter>>(),
                  .frame = [&frames, i](int64_t, const Frame& frame) { frames[i].push_back(frame); },
                  .ended = [](StopReason) {},
                  .failed = [](std::exception_ptr error) { std::rethrow_exception(error); }});
    }
    while (loop.step()) {
    }
    counts_ = loop.draft_counts();
    return frames;
  }

  DraftSettings settings() const {
    DraftSettings settings = DraftSettings::parse("--drafter", drafter_.weights().path().string());
    settings.model = model_;
    return settings;
  }

  Models models_{{.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .mula_dtype = DType::kF32},
                  .machine = {.threads = 2}},
                 CheckpointParts::kAll,
                 nullptr};
  RandomDrafter drafter_;
  std::optional<DraftFile> file_;
  std::shared_ptr<const DraftModel> model_;
  std::vector<Prompt> prompts_;
  std::vector<PhiloxNoise> noises_;
  DraftCounts counts_;
  GuessVerification verification_ = GuessVerification::kCoupled;
};

TEST_P(LearnedDrafts, guess_what_the_equations_say) {
  for (const int64_t most : {0, 1, 3}) {
    const bool drafts = most > 0 && drafter_.config().drafts_frames();
    int64_t guesses = 0;
    const auto checked = [&](size_t) {
      std::vector<std::unique_ptr<Drafter>> drafters;
      drafters.push_back(std::make_unique<CheckedDrafter>(make_learned_drafter(model_, drafts),
                                                          PlainDrafter(drafter_, models_),
                                                          drafts && drafter_.config().frame ? 20 : 1000, guesses));
      return drafters;
    };
    if (most > 0 && !drafts) continue;
    verification_ = GuessVerification::kCoupled;
    const auto songs = make({0, 1, 2}, checked, most, DraftController::always(most));
    EXPECT_GT(guesses, 100);
    EXPECT_EQ(songs, make({0, 1, 2}, {}, 0, {}));
    verification_ = GuessVerification::kBlock;
    guesses = 0;
    make({0, 1, 2}, checked, most, DraftController::always(most));
    EXPECT_GT(guesses, 100);
  }
}

TEST_P(LearnedDrafts, leave_the_song_as_it_is) {
  const auto alone = make({0, 1, 2}, {}, 0, {});
  for (const std::optional<int64_t>& frames : std::vector<std::optional<int64_t>>{std::nullopt, 0, 1, 3, 7}) {
    DraftSettings drafts = settings();
    drafts.frames = frames;
    const int64_t most = drafts.frames_of_pass() - 1;
    const auto drafters = [&](size_t) { return drafts.make_drafters(models_.lm_config()); };
    EXPECT_EQ(make({0, 1, 2}, drafters, most, drafts.controller()), alone);
    EXPECT_EQ(make({2}, drafters, most, drafts.controller())[0], alone[2]);
  }
}

TEST_P(LearnedDrafts, verified_as_blocks_make_another_song_that_is_the_same_in_any_company) {
  const auto alone = make({0, 1, 2}, {}, 0, {});
  verification_ = GuessVerification::kBlock;
  for (const int64_t frames : {0, 1, 3}) {
    if (frames > 0 && !drafter_.config().drafts_frames()) continue;
    DraftSettings drafts = settings();
    drafts.frames = frames;
    const int64_t most = drafts.frames_of_pass() - 1;
    const auto drafters = [&](size_t) { return drafts.make_drafters(models_.lm_config()); };
    const auto songs = make({0, 1, 2}, drafters, most, drafts.controller());
    for (size_t song = 0; song < songs.size(); ++song) {
      EXPECT_NE(songs[song], alone[song]);
      EXPECT_EQ(songs[song][0][0], alone[song][0][0]);  // nobody has guessed it
      EXPECT_EQ(make({song}, drafters, most, drafts.controller())[0], songs[song]);
    }
    if (frames > 0) continue;  // what is guessed together depends on where a song goes on
    const auto rest = make({1}, drafters, most, drafts.controller(), std::span(songs[1]).first(9))[0];
    EXPECT_EQ(rest, std::vector(songs[1].begin() + 9, songs[1].end()));
  }
}

TEST_P(LearnedDrafts, blocks_need_drafters_that_tell_their_chances) {
  verification_ = GuessVerification::kBlock;
  const auto bigram = [](size_t) {
    std::vector<std::unique_ptr<Drafter>> drafters;
    drafters.push_back(make_bigram_drafter());
    return drafters;
  };
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { make({0}, bigram, 0, DraftController::always(0)); }),
              HasSubstr("--drafter FILE"));
}

INSTANTIATE_TEST_SUITE_P(parts, LearnedDrafts, testing::Values("depth", "frame", "medusa"),
                         [](const auto& test) { return std::string(test.param); });

TEST(DraftFiles, say_what_is_wrong_with_them) {
  const LmConfig lm = read_lm_config(std::string(HEARTMULA_TEST_DATA) + "/tiny1/HeartMuLa-oss-3B/config.json");
  const RandomDrafter good(lm, "frame");
  const auto said = [&](const std::filesystem::path& path, const LmConfig& config) {
    return error_of(ErrorKind::kUser, [&] { DraftFile::open(path, config); });
  };
  LmConfig other = lm;
  other.backbone.embed_dim += 2;
  EXPECT_THAT(said(good.weights().path(), other), HasSubstr("is for another language model"));
  EXPECT_THAT(said("nowhere.safetensors", lm), HasSubstr("no such file"));

  const TemporaryFolder folder;
  const auto file_with = [&](const json& metadata) {
    const std::vector<std::byte> bytes = encode_safetensors({}, {{"heartmula_drafter", metadata.dump()}});
    return folder.write("drafter.safetensors", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  json metadata = {{"version", 1}, {"embed_dim", lm.backbone.embed_dim}, {"audio_vocab_size", lm.audio_vocab_size}};
  EXPECT_THAT(said(file_with(metadata), lm), HasSubstr("has no micro depth decoder"));
  metadata["depth"] = transformer(16, kCodebooks);
  EXPECT_THAT(said(file_with(metadata), lm), HasSubstr("depth.hidden.weight"));
  metadata["depth"] = transformer(16, kCodebooks - 1);
  EXPECT_THAT(said(file_with(metadata), lm), HasSubstr("depth.max_seq_len is 7"));
  metadata["depth"] = transformer(18, kCodebooks);
  EXPECT_THAT(said(file_with(metadata), lm), HasSubstr("heads"));
  metadata["version"] = 2;
  EXPECT_THAT(said(file_with(metadata), lm), HasSubstr("version"));
  EXPECT_THAT(said(folder.write("text.safetensors", "no tensors"), lm), HasSubstr("text.safetensors"));
  const RandomCheckpoint plain(HeartMula::expected_tensors(lm), 1);
  EXPECT_THAT(said(plain.path(), lm), HasSubstr("is no drafter"));
}

}  // namespace
}  // namespace heartmula

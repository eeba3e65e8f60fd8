#include "measure/draft_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>

#include "base/testing.h"
#include "checkpoint/models.h"
#include "lm/session.h"
#include "song/codes_file.h"
#include "song/song_file.h"
#include "song/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kFrames = 26;

/// Two songs of the smallest checkpoint, and what is measured of them.
class DraftStatistics : public testing::Test {
 protected:
  DraftStatistics() {
    options_.checkpoint.model_path = endless_checkpoint();
    options_.machine.threads = 2;
    options_.codes = {made("one", 1), made("two", 2)};
  }

  std::string made(const std::string& name, uint64_t seed) const {
    Request request = short_request(kFrames);
    request.song.seed = seed;
    request.output.save_path = folder_ / (name + ".wav");
    request.output.save_codes = folder_ / (name + ".codes.safetensors");
    make_song_file(request, {}, nullptr);
    return request.output.save_codes;
  }

  std::string written(const char* name, const CodesOrigin& origin) const {
    CodesWriter writer(folder_ / name, origin);
    writer.append({});
    writer.finish();
    return folder_ / name;
  }

  json measured() const {
    return measure_draft_statistics(
        options_, [](const std::string&) {}, nullptr);
  }
  std::string complaint(ErrorKind kind, const std::string& codes) {
    options_.codes = {codes};
    return error_of(kind, [&] { measured(); });
  }

  TemporaryFolder folder_;
  DraftStatisticsOptions options_;
};

const json& named(const json& rows, const std::string& name) {
  return *std::ranges::find_if(rows, [&](const json& row) { return row["drafter"] == name; });
}

std::vector<double> softmax(std::span<const double> logits, double temperature) {
  std::vector<double> chances;
  double total = 0;
  for (const double logit : logits) total += chances.emplace_back(std::exp(logit / temperature));
  for (double& chance : chances) chance /= total;
  return chances;
}

double nats(std::span<const double> chances) {
  double entropy = 0;
  for (const double p : chances) entropy -= p * std::log(p);
  return entropy;
}

json every(int value) {
  return json(std::vector<int>(kCodebooks, value));
}

json behind_the_first(int value) {
  json values = every(value);
  values[0] = nullptr;
  return values;
}

TEST_F(DraftStatistics, who_knows_the_song_is_right_and_who_turns_it_round_is_wrong) {
  options_.drafters = {"oracle:1", "oracle:0"};
  const json statistics = measured();
  EXPECT_EQ(statistics["songs"], 2);
  EXPECT_EQ(statistics["frames"], 2 * kFrames);
  const json& right = named(statistics["drafters"], "oracle:1");
  EXPECT_EQ(right["right"], every(1));
  EXPECT_EQ(right["rest"], behind_the_first(1));
  EXPECT_EQ(right["frames"], 1);
  EXPECT_EQ(right["speed"]["rest"], 1.577);    // 10532 / (10532 - 6 * 642)
  EXPECT_EQ(right["speed"]["frames"], 3.153);  // and two frames of it
  const json& wrong = named(statistics["drafters"], "oracle:0");
  EXPECT_EQ(wrong["right"][0], 0);
  EXPECT_TRUE(wrong["right"][1].is_null());  // no code before was right
  EXPECT_EQ(wrong["rest"], behind_the_first(0));
  EXPECT_EQ(wrong["frames"], 0);
  EXPECT_EQ(wrong["speed"]["rest"], 1);
}

TEST_F(DraftStatistics, random_drafts_are_right_by_chance_and_have_no_rest) {
  options_.drafters = {"random"};
  const json random = measured()["drafters"][0];
  EXPECT_LE(random["right"][0], 0.15);  // 3 of 50 are the 99.5th percentile of one in 69
  EXPECT_EQ(random["frames"], 0);
  EXPECT_TRUE(random["rest"].is_null());
  EXPECT_TRUE(random["speed"]["rest"].is_null());
  EXPECT_EQ(random["speed"]["frames"], 1);
}

TEST_F(DraftStatistics, an_early_exit_behind_the_last_layer_makes_the_song) {
  options_.early_exits = {3, 1};
  const json statistics = measured();
  const json& all = named(statistics["drafters"], "early_exit:3");
  EXPECT_EQ(all["right"], every(1));
  EXPECT_EQ(all["frames"], 1);
  EXPECT_EQ(all["speed"]["frames"], 1);  // two frames, of which each was computed twice
  EXPECT_LT(named(statistics["drafters"], "early_exit:1")["right"][0], 1);
}

TEST_F(DraftStatistics, spreads_are_those_of_the_logits) {
  options_.codes.resize(1);
  options_.frames = 3;
  const json statistics = measured();
  Models models({.checkpoint = options_.checkpoint, .machine = options_.machine}, CheckpointParts::kAll, nullptr);
  const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), "piano,happy", "[verse]\nla la");
  LmSession session(models.lm_ops(), models.lm(), 2, 400);
  session.prefill(prompt.text_ids, prompt.reference_index, {});
  const std::vector<Frame> frames = read_codes(options_.codes[0]).frames;
  const auto vocabulary = static_cast<size_t>(models.lm_config().audio_vocab_size);
  std::array<double, kCodebooks> entropy = {};
  std::array<double, kCodebooks> likeliest = {};
  double hot_entropy = 0;  // of the first frame
  for (size_t t = 0; t < 3; ++t) {
    for (size_t q = 0; q < kCodebooks; ++q) {
      const std::span<const float> logits =
          q == 0 ? session.first_logits() : session.next_logits(static_cast<int64_t>(q), frames[t][q - 1]);
      std::vector<double> guided(vocabulary);
      for (size_t v = 0; v < vocabulary; ++v) guided[v] = 1.5 * logits[v] - 0.5 * logits[vocabulary + v];
      std::ranges::sort(guided, std::greater<>());
      guided.resize(50);
      const std::vector<double> chances = softmax(guided, 1);
      entropy[q] += nats(chances) / 3;
      likeliest[q] += chances[0] / 3;
      if (t == 0) hot_entropy += nats(softmax(guided, statistics["hotter"]["temperature"])) / kCodebooks;
    }
    if (t < 2) session.feed(frames[t]);
  }
  EXPECT_NEAR(hot_entropy, 3.5, 1e-3);
  EXPECT_EQ(statistics["frames"], 3);
  double mean = 0;
  for (size_t q = 0; q < kCodebooks; ++q) {
    EXPECT_NEAR(statistics["entropy"][q], entropy[q], 1e-3 * entropy[q]) << q;
    EXPECT_NEAR(statistics["likeliest"][q], likeliest[q], 1e-3 * likeliest[q]) << q;
    EXPECT_EQ(statistics["kept"][q], 50) << q;
    mean += entropy[q] / kCodebooks;
  }
  EXPECT_NEAR(statistics["mean_entropy"], mean, 1e-3 * mean);
}

TEST_F(DraftStatistics, few_codes_have_no_such_temperature) {
  Request request = short_request(4);
  request.song.topk = 20;  // at most log 20 = 3.0 nats
  request.output.save_path = folder_ / "few.wav";
  request.output.save_codes = folder_ / "few.codes.safetensors";
  make_song_file(request, {}, nullptr);
  options_.codes.push_back(request.output.save_codes);
  options_.codes.erase(options_.codes.begin(), options_.codes.begin() + 2);
  const json statistics = measured();
  EXPECT_TRUE(statistics["hotter"]["temperature"].is_null());
  EXPECT_EQ(statistics["topk"], 20);
  EXPECT_THAT(describe_draft_statistics(statistics), HasSubstr("no temperature"));
}

TEST_F(DraftStatistics, the_fields_and_the_table) {
  const json statistics = measured();
  std::vector<std::string> names;
  for (const json& drafter : statistics["drafters"]) names.push_back(drafter["drafter"]);
  EXPECT_EQ(names, (std::vector<std::string>{"previous", "bigram", "random", "oracle", "early_exit:1",
                                             "early_exit:2"}));  // of three layers
  for (const char* field : {"entropy", "likeliest", "kept"}) EXPECT_EQ(statistics[field].size(), 8u) << field;
  EXPECT_EQ(statistics["resampled_code"].size(), 7u);
  EXPECT_TRUE(statistics["resampled_code"][3][3].is_null());
  EXPECT_TRUE(statistics["resampled_code"][3][4].is_number());
  EXPECT_TRUE(statistics["resampled_code"][0][7].is_number());
  EXPECT_EQ(statistics["resampled_frame"]["changed"], 1);
  EXPECT_EQ(statistics["resampled_frame"]["right"][0], statistics["resampled_frame"]["same"][0]);
  EXPECT_EQ(statistics["running"].size(), 2u);
  EXPECT_EQ(named(statistics["running"], "riders")["drafted"].is_number(), true);
  EXPECT_THAT(describe_draft_statistics(statistics),
              AllOf(HasSubstr("2 songs, 52 frames, temperature 1, topk 50, cfg_scale 1.5"), HasSubstr("bigram"),
                    HasSubstr("riders, running"), HasSubstr("codebook 6")));
}

TEST_F(DraftStatistics, what_cannot_be_measured_is_one_line) {
  const Codes song = read_codes(options_.codes[0]);
  const std::string& model = song.origin.language_model;
  EXPECT_THAT(complaint(ErrorKind::kUser, written("bare", {"", model, ""})), HasSubstr("bare: holds no request"));
  EXPECT_THAT(complaint(ErrorKind::kUser, written("seedless", {"{}", model, ""})), HasSubstr("no seed"));
  EXPECT_THAT(complaint(ErrorKind::kUser, written("other", {song.origin.request_json, "0123", ""})),
              AllOf(HasSubstr("other: made with another language model (0123)"), HasSubstr(model)));
  json request = json::parse(song.origin.request_json);
  request["load_codes"] = "before.codes.safetensors";
  EXPECT_THAT(complaint(ErrorKind::kUser, written("later", {request.dump(), model, ""})),
              HasSubstr("goes on from before.codes.safetensors"));
  EXPECT_THAT(complaint(ErrorKind::kFailure, written("forged", song.origin)),
              HasSubstr("forged: frame 0 is another one when it is made again"));
  EXPECT_THAT(complaint(ErrorKind::kUser, folder_ / "none"), HasSubstr("none"));
}

}  // namespace
}  // namespace heartmula

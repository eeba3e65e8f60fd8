#include "checkpoint/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "song/testing.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

int64_t peak_of(const Request& request, int64_t context = 100) {
  return plan_memory(*models_for(request), request.size(context)).peak();
}

/// How the peak of a short song changes when `change` changes the request.
template <typename Change>
int64_t difference(const Change& change, Request request = short_request(20)) {
  const int64_t before = peak_of(request);
  change(request);
  return peak_of(request) - before;
}

TEST(MemoryPlan, a_longer_song_never_needs_less) {
  const auto models = models_for(short_request(1));
  int64_t last = 0;
  for (const int64_t context : {1, 2, 50, 1000, 8192}) {
    const int64_t peak = plan_memory(*models, short_request(1).size(context)).peak();
    EXPECT_GE(peak, last);
    last = peak;
  }
  EXPECT_GT(last, plan_memory(*models, short_request(1).size(1)).peak());
}

TEST(MemoryPlan, cheaper_settings_never_need_more) {
  EXPECT_LT(difference([](Request& r) { r.machine.lazy_load = true; }), 0);
  EXPECT_LE(difference([](Request& r) { r.checkpoint.codec_dtype = DType::kBF16; }), 0);
  EXPECT_GE(difference([](Request& r) { r.checkpoint.mula_dtype = DType::kF32; }), 0);
  EXPECT_GE(difference([](Request& r) { r.codec.flow.guidance = 1.25; }), 0);
  EXPECT_LE(difference([](Request& r) { r.song.cfg_scale = 1; }), 0);
}

TEST(MemoryPlan, guidance_doubles_the_cache) {
  Request request = short_request(20);
  request.song.cfg_scale = 1;
  const auto models = models_for(request);
  const int64_t one_row = plan_memory(*models, request.size(100)).lm->cache;
  request.song.cfg_scale = 1.5;
  const int64_t two_rows = plan_memory(*models, request.size(100)).lm->cache;
  EXPECT_EQ(two_rows, 2 * one_row);
}

TEST(MemoryPlan, decoding_alone_plans_no_language_model) {
  const Request request = short_request(20);
  const MemoryPlan plan = plan_memory(*models_for(request), request.size(0));
  EXPECT_FALSE(plan.lm);
  ASSERT_TRUE(plan.codec);
  EXPECT_LT(plan.peak(), peak_of(request));
}

/// Sizes at which each way out makes the difference: 10 bytes of language model, 8 of codec.
MemoryPlan simple_plan(const Request& request, bool with_lm = true) {
  MemoryPlan plan;
  plan.lazy_load = request.machine.lazy_load;
  if (with_lm) plan.lm = StageMemory{.weights = 10'000'000'000};
  plan.codec = StageMemory{.weights = 8'000'000'000};
  return plan;
}

TEST(CheckMemory, what_fits_is_taken) {
  const Request request;
  const CheckpointSettings checkpoint;
  check_memory(simple_plan(request), checkpoint, {.host = 18'000'000'000});
  error_of(ErrorKind::kUser, [&] { check_memory(simple_plan(request), checkpoint, {.host = 17'999'999'999}); });
}

TEST(CheckMemory, a_refusal_says_what_is_needed_what_there_is_and_what_helps) {
  Request request;
  CheckpointSettings checkpoint;
  const auto advice = [&](int64_t available, bool with_lm = true) {
    return error_of(ErrorKind::kUser, [&] {
      check_memory(simple_plan(request, with_lm), checkpoint, {.host = static_cast<uint64_t>(available)});
    });
  };
  EXPECT_THAT(advice(11'000'000'000),
              AllOf(HasSubstr("18.00 GB"), HasSubstr("11.00 GB"), HasSubstr("--lazy_load true")));
  EXPECT_THAT(advice(1'000'000'000), HasSubstr("--lazy_load true"));  // a beginning
  EXPECT_THAT(advice(7'000'000'000, false), AllOf(HasSubstr("--codec_dtype bf16"), Not(HasSubstr("lazy_load"))));

  checkpoint.mula_dtype = DType::kF32;
  EXPECT_THAT(advice(14'500'000'000), HasSubstr("--lazy_load true"));
  request.machine.lazy_load = true;  // then the greater model decides, and a smaller codec does not help
  EXPECT_THAT(advice(9'000'000'000), HasSubstr("--mula_dtype bf16"));
  checkpoint.mula_dtype = DType::kBF16;
  check_memory(simple_plan(request, true), checkpoint, {});  // nobody knows what there is
  EXPECT_THAT(advice(9'000'000'000), AllOf(HasSubstr("10.00 GB"), HasSubstr("--max_audio_length_ms")));
}

TEST(FindSaving, changes_as_little_as_makes_the_plan_fit) {
  Request request;
  CheckpointSettings checkpoint;
  const auto saving = [&](uint64_t gigabytes) {
    const auto found = find_saving(simple_plan(request), checkpoint, {.host = gigabytes * 1'000'000'000});
    return found ? found->flags() : "none";
  };
  EXPECT_EQ(saving(18), "none");
  EXPECT_THAT(saving(17), HasSubstr("--lazy_load true (one model at a time)"));
  EXPECT_THAT(saving(10), HasSubstr("--lazy_load true (one model at a time)"));
  EXPECT_EQ(saving(9), "none");
  request.machine.lazy_load = true;
  EXPECT_EQ(saving(10), "none");
  const auto of_codec = find_saving(simple_plan({}, false), checkpoint, {.host = 5'000'000'000});
  ASSERT_TRUE(of_codec);
  EXPECT_EQ(of_codec->flags(), "--codec_dtype bf16");
  EXPECT_FALSE(of_codec->lazy_load);
}

TEST(FindSaving, models_that_take_less_memory_plan_so) {
  const Request request = short_request(20);
  const auto models = models_for(request);
  const MemoryPlan plan = plan_memory(*models, request.size(100));
  models->take_less_memory(true, true);
  EXPECT_TRUE(models->one_at_a_time());
  EXPECT_EQ(models->options().checkpoint.codec_dtype, DType::kBF16);
  const MemoryPlan smaller = plan_memory(*models, request.size(100));
  EXPECT_LT(smaller.peak(), plan.peak());
  EXPECT_LT(smaller.codec->weights, plan.codec->weights);
}

TEST(MemoryPlan, json_and_text_name_both_models_and_the_peak) {
  const Request request = short_request(20);
  const MemoryPlan plan = plan_memory(*models_for(request), request.size(100));
  const nlohmann::json printed = to_json(plan);
  EXPECT_EQ(printed["peak_bytes"], plan.peak());
  EXPECT_EQ(printed["language_model"]["weights_bytes"], plan.lm->weights);
  EXPECT_EQ(printed["codec"]["activations_bytes"], plan.codec->activations);
  EXPECT_THAT(describe(plan, {.host = 1'234'000'000}), AllOf(HasSubstr("language model"), HasSubstr("codec"),
                                                             HasSubstr("peak"), HasSubstr("available 1.234 GB")));
  EXPECT_THAT(describe(plan, {}), HasSubstr("available unknown"));
}

/// The sizes of the 3B model for three minutes of music, both stages on one card; f32 codec.
MemoryPlan card_plan(const CheckpointSettings& checkpoint, bool lazy_load) {
  const Device card{.is_cuda = true};
  MemoryPlan plan;
  plan.lazy_load = lazy_load;
  plan.lm = StageMemory{.weights = 7'100'000'000,
                        .cache = 600'000'000,
                        .activations = 100'000'000,
                        .loading = 100'000'000,
                        .device = card,
                        .host = 50'000'000};
  plan.codec = StageMemory{.weights = checkpoint.codec_dtype == DType::kBF16 ? 3'300'000'000 : 6'600'000'000,
                           .activations = 700'000'000,
                           .loading = 100'000'000,
                           .device = card,
                           .host = 50'000'000};
  return plan;
}

AvailableMemory with_card(int64_t free_bytes, bool shares_memory = false) {
  const CudaDevice card{.index = 0,
                        .name = "Card",
                        .major = 8,
                        .minor = 6,
                        .memory_bytes = free_bytes + 400'000'000,
                        .free_bytes = free_bytes,
                        .multiprocessors = 30,
                        .shares_memory = shares_memory,
                        .problem = ""};
  return {.host = 16'000'000'000, .cuda = {true, "13.0", "13.0", "", {card}}};
}

std::string card_complaint(const CheckpointSettings& checkpoint, bool lazy_load, const AvailableMemory& available) {
  return error_of(ErrorKind::kUser, [&] { check_memory(card_plan(checkpoint, lazy_load), checkpoint, available); });
}

TEST(CheckMemory, cards_of_24_16_and_12_gigabytes_have_a_plan_and_8_are_refused) {
  const CheckpointSettings f32;
  CheckpointSettings bf16;
  bf16.codec_dtype = DType::kBF16;
  check_memory(card_plan(f32, false), f32, with_card(23'300'000'000));
  EXPECT_THAT(card_complaint(f32, false, with_card(15'000'000'000)),
              AllOf(HasSubstr("on cuda:0 (Card)"), HasSubstr("15.00 of its 15.40 GB"), HasSubstr("--lazy_load true")));
  check_memory(card_plan(bf16, false), bf16, with_card(15'000'000'000));
  check_memory(card_plan(f32, true), f32, with_card(11'300'000'000));
  EXPECT_THAT(card_complaint(bf16, false, with_card(11'300'000'000)), HasSubstr("use --lazy_load true"));
  EXPECT_THAT(card_complaint(bf16, true, with_card(7'600'000'000)),
              AllOf(HasSubstr("needs 8.05 GB"), HasSubstr("7.60 of its 8.00 GB"), HasSubstr("--device cpu")));
}

TEST(CheckMemory, a_cards_memory_is_not_the_machines_unless_they_share_it) {
  const CheckpointSettings f32;
  const MemoryPlan plan = card_plan(f32, false);
  EXPECT_LT(plan.peak(), 1'000'000'000);
  AvailableMemory available = with_card(23'000'000'000);
  available.host = 1'000'000'000;
  check_memory(plan, f32, available);
  available = with_card(23'000'000'000, true);
  available.host = 15'500'000'000;
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { check_memory(plan, f32, available); }), HasSubstr("15.50 GB"));
  available.host = 17'000'000'000;
  check_memory(plan, f32, available);
}

TEST(CheckMemory, each_stage_counts_where_it_is) {
  const CheckpointSettings f32;
  MemoryPlan plan = card_plan(f32, false);
  plan.codec->device = {};
  EXPECT_EQ(plan.cards().size(), 1u);
  EXPECT_GT(plan.peak(), 7'300'000'000);
  check_memory(plan, f32, with_card(8'300'000'000));
  plan.codec->device = {.is_cuda = true, .index = 1};
  EXPECT_EQ(plan.cards().size(), 2u);
  EXPECT_LT(plan.peak(), 1'000'000'000);
  EXPECT_LT(plan.card_peak({.is_cuda = true, .index = 1}), 8'000'000'000);
}

TEST(MemoryPlan, a_card_stands_in_json_and_text) {
  const MemoryPlan plan = card_plan({}, false);
  const nlohmann::json printed = to_json(plan);
  EXPECT_EQ(printed["language_model"]["device"], "cuda:0");
  EXPECT_EQ(printed["cards"]["cuda:0"]["peak_bytes"], plan.card_peak({.is_cuda = true}));
  EXPECT_THAT(describe(plan, with_card(23'000'000'000)),
              AllOf(HasSubstr("on cuda:0"), HasSubstr("cuda:0 peak 15."), HasSubstr("available 23.000 GB"),
                    HasSubstr("beside them peak")));
}

}  // namespace
}  // namespace heartmula

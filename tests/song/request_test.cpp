#include "song/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "song/settings.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

/// Nothing in it is a default.
Request unusual_request() {
  Request r;
  r.checkpoint.model_path = "modèles/歌";
  r.checkpoint.version = "7B";
  r.checkpoint.skip_layers = 2;
  r.song.lyrics = "\"la\"\r\n\t\\ \U0001F3B5 end";
  r.song.tags = "piano,<tag>";
  r.song.title = "Été";
  r.song.max_audio_length_ms = 1'234'567;
  r.song.topk = 7;
  r.song.temperature = 0.1;
  r.song.cfg_scale = 1.0 / 3;
  r.song.seed = 18'446'744'073'709'551'615u;
  r.checkpoint.mula_dtype = DType::kF32;
  r.checkpoint.codec_dtype = DType::kBF16;
  r.codec.flow.steps = 3;
  r.codec.flow.guidance = 2.7182818284590452;
  r.codec.quality = CodecQuality::kBalanced;
  r.codec.flow.solver = FlowSolver::kHeun;
  r.codec.flow.grid = parse_flow_grid("", "0,0.1,0.30000000000000004,1");
  r.codec.flow.guidance_steps = {0, 2};
  r.codec.flow.first_stack_steps = {0, 1};
  r.codec.windows = WindowScheme::kEarly;
  r.codec.order = WindowOrder::kBlended;
  r.codec.short_last_window = true;
  r.codec.compat = true;
  r.song.load_codes = "old.safetensors";
  r.song.continue_from_ms = 0;
  r.output.save_path = "/dev/stdout";
  r.output.format = AudioFormat::kFlac;
  r.output.sample_format = SampleFormat::kS24;
  r.output.save_codes = "new.safetensors";
  r.machine.device = parse_device("", "cuda");
  r.machine.mula_device = parse_device("", "cuda:3");
  r.machine.codec_device = parse_device("", "cpu");
  r.machine.lazy_load = true;
  r.machine.memory = MemoryPolicy::kAuto;
  r.machine.threads = 3;
  r.machine.overlap = 2;
  r.machine.drafter = "early_exit:3";
  r.machine.draft_frames = 2;
  r.machine.kv_memory_mb = 700;
  r.machine.kv_swap = "/tmp";
  r.checkpoint.mula_path = "lm";
  r.checkpoint.codec_path = "codec";
  r.checkpoint.tokenizer = "tokenizer.json";
  r.checkpoint.lora = {"one", "two"};
  r.machine.cpus = "0-2";
  r.machine.mlock = true;
  r.song.muq_embed = "style.npy";
  r.output.no_metadata = true;
  r.output.fade_out_ms = 300;
  r.song.min_audio_length_ms = 80;
  r.song.ignore_eos = true;
  r.song.lossy = LossyAcceptance::kTypical;
  r.song.long_song = LongSong::kChapters;
  r.song.verification = GuessVerification::kBlock;
  return r;
}

void expect_same(const Request& a, const Request& b) {
  for (const Setting& setting : settings_table()) {
    EXPECT_EQ(setting.type->get(a), setting.type->get(b)) << setting.name;
  }
}

std::string complaint(const json& request) {
  return error_of(ErrorKind::kUser, [&] { parse_request(request.dump(), "song.json"); });
}

TEST(Request, nothing_in_the_unusual_one_is_a_default) {
  for (const Setting& setting : settings_table()) {
    if (!setting.stored() || setting.name == "cuda_weights") continue;  // of which there is no other value yet
    EXPECT_NE(setting.type->get(unusual_request()), setting.type->get(Request())) << setting.name;
  }
}

TEST(Request, comes_back_from_json_as_it_was) {
  for (const Request& request : {Request(), unusual_request()}) {
    const std::string text = to_json(request).dump();
    expect_same(parse_request(text, "x").request, request);
    EXPECT_EQ(to_json(parse_request(text, "x").request).dump(), text);
  }
}

TEST(Request, comes_back_from_a_songs_sidecar) {
  const json sidecar = {{"request", to_json(unusual_request())}, {"result", {{"frames", 3}, {"anything", "else"}}}};
  const StoredRequest stored = parse_request(sidecar.dump(), "x");
  expect_same(stored.request, unusual_request());
  EXPECT_TRUE(stored.was_made);
  EXPECT_FALSE(parse_request(to_json(unusual_request()).dump(), "x").was_made);
}

TEST(Request, settings_that_are_missing_keep_their_defaults) {
  Request defaults = unusual_request();
  Request expected = defaults;
  expected.song.topk = 11;
  expect_same(parse_request(R"({"topk": 11})", "x", defaults).request, expected);
}

TEST(Request, an_unknown_setting_is_an_error_with_its_name) {
  EXPECT_EQ(complaint({{"tempreature", 1}}), "song.json: unknown setting \"tempreature\"");
  EXPECT_EQ(complaint({{"request", {{"top-k", 1}}}}), "song.json: unknown setting \"top-k\"");
}

TEST(Request, a_setting_of_another_kind_is_an_error_with_its_name) {
  const json request = to_json(unusual_request());
  for (const auto& item : request.items()) {
    json wrong = request;
    wrong[item.key()] = item.value().is_string() ? json(3) : json("three");
    EXPECT_THAT(complaint(wrong), AllOf(StartsWith("song.json: "), HasSubstr(item.key())));
    wrong[item.key()] = nullptr;
    EXPECT_THAT(complaint(wrong), AllOf(StartsWith("song.json: "), HasSubstr(item.key())));
  }
}

TEST(Request, weights_have_the_names_of_heartlib) {
  for (const char* name : {"float32", "fp32"}) EXPECT_EQ(parse_weight_dtype("--mula_dtype", name), DType::kF32);
  for (const char* name : {"bfloat16", "bf16", "float16", "fp16"}) {
    EXPECT_EQ(parse_weight_dtype("--mula_dtype", name), DType::kBF16);
  }
  for (const char* name : {"", "int8", "Float32", "float"}) {
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { parse_weight_dtype("--mula_dtype", name); }),
                StartsWith(std::string("--mula_dtype ") + name));
  }
}

TEST(Request, is_checked_before_any_work) {
  const auto refused = [](auto change) {
    Request request;
    request.checkpoint.model_path = "ckpt";
    validate(request);
    change(request);
    return error_of(ErrorKind::kUser, [&] { validate(request); });
  };
  EXPECT_THAT(refused([](Request& r) { r.song.max_audio_length_ms = -1; }), HasSubstr("--max_audio_length_ms"));
  EXPECT_THAT(refused([](Request& r) { r.song.topk = 0; }), HasSubstr("--topk"));
  EXPECT_THAT(refused([](Request& r) { r.song.temperature = 0; }), HasSubstr("--temperature"));
  EXPECT_THAT(refused([](Request& r) { r.song.cfg_scale = NAN; }), HasSubstr("--cfg_scale"));
  EXPECT_THAT(refused([](Request& r) { r.codec.flow.steps = 0; }), HasSubstr("--codec_steps"));
  EXPECT_THAT(refused([](Request& r) { r.codec.flow.guidance = -1; }), HasSubstr("--codec_guidance_scale"));
  EXPECT_THAT(refused([](Request& r) { r.machine.threads = -1; }), HasSubstr("--threads"));
  EXPECT_THAT(refused([](Request& r) { r.song.continue_from_ms = 80; }), HasSubstr("--load_codes"));
  EXPECT_THAT(refused([](Request& r) {
                r.machine.drafter = "none";
                r.machine.draft_frames = 3;
              }),
              HasSubstr("--drafter none"));
  EXPECT_THAT(refused([](Request& r) { r.song.lossy = LossyAcceptance::kTopk; }), HasSubstr("--draft_frames N"));
  const auto in_blocks = [&](const std::string& drafter, std::optional<int64_t> frames) {
    return refused([&](Request& r) {
      r.song.verification = GuessVerification::kBlock;
      r.machine.drafter = drafter;
      r.machine.draft_frames = frames;
    });
  };
  EXPECT_THAT(in_blocks("auto", {}), HasSubstr("--verification block needs --draft_frames N"));
  EXPECT_THAT(in_blocks("riders", 1), HasSubstr("--drafter FILE, not riders"));
  EXPECT_THAT(refused([](Request& r) {
                r.song.verification = GuessVerification::kBlock;
                r.song.lossy = LossyAcceptance::kTopk;
              }),
              HasSubstr("--lossy topk"));
  EXPECT_THAT(refused([](Request& r) { r.output.save_path.clear(); }), HasSubstr("--save_path"));
  EXPECT_THAT(refused([](Request& r) { r.output.save_path = "song"; }), HasSubstr("--format"));
  EXPECT_THAT(refused([](Request& r) {
                r.output.sample_format = SampleFormat::kF32;
                r.output.format = AudioFormat::kFlac;
              }),
              HasSubstr("f32"));
  EXPECT_THAT(refused([](Request& r) { r.song.lyrics = "\xff"; }), HasSubstr("--lyrics"));
}

TEST(Request, seeds_of_the_system_differ) {
  EXPECT_NE(random_seed(), random_seed());
  bool upper_half = false;
  for (int i = 0; i < 10; ++i) upper_half |= random_seed() >> 32 != 0;
  EXPECT_TRUE(upper_half);
}

}  // namespace
}  // namespace heartmula

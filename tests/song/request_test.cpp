#include "song/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

/// Nothing in it is a default.
Request unusual_request() {
  Request r;
  r.model_path = "modèles/歌";
  r.version = "7B";
  r.lyrics = std::string("\"la\"\r\n\t\\ \U0001F3B5 \x01\x7f", 17) + std::string(1, '\0') + "end";
  r.tags = "piano,<tag>";
  r.title = "Été";
  r.max_audio_length_ms = 1'234'567;
  r.topk = 7;
  r.temperature = 0.1;
  r.cfg_scale = 1.0 / 3;
  r.seed = 18'446'744'073'709'551'615u;
  r.mula_dtype = DType::kF32;
  r.codec_dtype = DType::kBF16;
  r.codec_steps = 3;
  r.codec_guidance_scale = 2.7182818284590452;
  r.compat = true;
  r.load_codes = "old.safetensors";
  r.continue_from_ms = 0;
  r.save_path = "/dev/stdout";
  r.format = AudioFormat::kFlac;
  r.sample_format = SampleFormat::kS24;
  r.save_codes = "new.safetensors";
  r.lazy_load = true;
  r.threads = 3;
  r.overlap = 2;
  return r;
}

void expect_same(const Request& a, const Request& b) {
  EXPECT_EQ(a.model_path, b.model_path);
  EXPECT_EQ(a.version, b.version);
  EXPECT_EQ(a.lyrics, b.lyrics);
  EXPECT_EQ(a.tags, b.tags);
  EXPECT_EQ(a.title, b.title);
  EXPECT_EQ(a.max_audio_length_ms, b.max_audio_length_ms);
  EXPECT_EQ(a.topk, b.topk);
  EXPECT_EQ(a.temperature, b.temperature);
  EXPECT_EQ(a.cfg_scale, b.cfg_scale);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.mula_dtype, b.mula_dtype);
  EXPECT_EQ(a.codec_dtype, b.codec_dtype);
  EXPECT_EQ(a.codec_steps, b.codec_steps);
  EXPECT_EQ(a.codec_guidance_scale, b.codec_guidance_scale);
  EXPECT_EQ(a.compat, b.compat);
  EXPECT_EQ(a.load_codes, b.load_codes);
  EXPECT_EQ(a.continue_from_ms, b.continue_from_ms);
  EXPECT_EQ(a.save_path, b.save_path);
  EXPECT_EQ(a.format, b.format);
  EXPECT_EQ(a.sample_format, b.sample_format);
  EXPECT_EQ(a.save_codes, b.save_codes);
  EXPECT_EQ(a.lazy_load, b.lazy_load);
  EXPECT_EQ(a.threads, b.threads);
  EXPECT_EQ(a.overlap, b.overlap);
}

std::string complaint(const json& request) {
  return error_of(ErrorKind::kUser, [&] { parse_request(request.dump(), "song.json"); });
}

TEST(Request, comes_back_from_json_as_it_was) {
  for (const Request& request : {Request(), unusual_request()}) {
    const std::string text = to_json(request).dump();
    expect_same(parse_request(text, "x"), request);
    EXPECT_EQ(to_json(parse_request(text, "x")).dump(), text);
  }
}

TEST(Request, comes_back_from_a_songs_sidecar) {
  const json sidecar = {{"request", to_json(unusual_request())}, {"result", {{"frames", 3}, {"anything", "else"}}}};
  expect_same(parse_request(sidecar.dump(), "x"), unusual_request());
}

TEST(Request, settings_that_are_missing_keep_their_defaults) {
  Request defaults = unusual_request();
  Request expected = defaults;
  expected.topk = 11;
  expect_same(parse_request(R"({"topk": 11})", "x", defaults), expected);
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
  for (const char* name : {"float32", "fp32"}) EXPECT_EQ(parse_weight_dtype("mula_dtype", name), DType::kF32);
  for (const char* name : {"bfloat16", "bf16", "float16", "fp16"}) {
    EXPECT_EQ(parse_weight_dtype("mula_dtype", name), DType::kBF16);
  }
  for (const char* name : {"", "int8", "Float32", "float"}) {
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { parse_weight_dtype("mula_dtype", name); }),
                StartsWith(std::string("--mula_dtype ") + name));
  }
}

TEST(Request, is_checked_before_any_work) {
  const auto refused = [](auto change) {
    Request request;
    request.model_path = "ckpt";
    validate(request);
    change(request);
    return error_of(ErrorKind::kUser, [&] { validate(request); });
  };
  EXPECT_THAT(refused([](Request& r) { r.model_path.clear(); }), HasSubstr("--model_path"));
  EXPECT_THAT(refused([](Request& r) { r.max_audio_length_ms = -1; }), HasSubstr("--max_audio_length_ms"));
  EXPECT_THAT(refused([](Request& r) { r.topk = 0; }), HasSubstr("--topk"));
  EXPECT_THAT(refused([](Request& r) { r.temperature = 0; }), HasSubstr("--temperature"));
  EXPECT_THAT(refused([](Request& r) { r.cfg_scale = NAN; }), HasSubstr("--cfg_scale"));
  EXPECT_THAT(refused([](Request& r) { r.codec_steps = 0; }), HasSubstr("--codec_steps"));
  EXPECT_THAT(refused([](Request& r) { r.codec_guidance_scale = -1; }), HasSubstr("--codec_guidance_scale"));
  EXPECT_THAT(refused([](Request& r) { r.threads = -1; }), HasSubstr("--threads"));
  EXPECT_THAT(refused([](Request& r) { r.continue_from_ms = 80; }), HasSubstr("--load_codes"));
  EXPECT_THAT(refused([](Request& r) { r.save_path.clear(); }), HasSubstr("--save_path"));
  EXPECT_THAT(refused([](Request& r) { r.save_path = "song"; }), HasSubstr("--format"));
  EXPECT_THAT(refused([](Request& r) {
                r.sample_format = SampleFormat::kF32;
                r.format = AudioFormat::kFlac;
              }),
              HasSubstr("f32"));
  EXPECT_THAT(refused([](Request& r) { r.save_codes = r.save_path; }), HasSubstr("--save_codes"));
  EXPECT_THAT(refused([](Request& r) { r.lyrics = "\xff"; }), HasSubstr("--lyrics"));
}

TEST(Request, seeds_of_the_system_differ) {
  EXPECT_NE(random_seed(), random_seed());
  bool upper_half = false;
  for (int i = 0; i < 10; ++i) upper_half |= random_seed() >> 32 != 0;
  EXPECT_TRUE(upper_half);
}

}  // namespace
}  // namespace heartmula

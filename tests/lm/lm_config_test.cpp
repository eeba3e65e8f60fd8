#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "lm/config.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

json some_config() {
  const json transformer = {{"num_layers", 3},  {"num_heads", 6},         {"num_kv_heads", 2},
                            {"embed_dim", 84},  {"intermediate_dim", 37}, {"max_seq_len", 99},
                            {"norm_eps", 1e-6}, {"rope_base", 10000},     {"scale_factor", 8}};
  return {{"backbone_flavor", "mine"},
          {"decoder_flavor", "mine"},
          {"text_vocab_size", 101},
          {"audio_vocab_size", 53},
          {"muq_dim", 12},
          {"audio_num_codebooks", 8},
          {"backbone", transformer},
          {"decoder", transformer}};
}

std::string complaint(const json& config) {
  return error_of(ErrorKind::kUser, [&] { parse_lm_config(config.dump(), "ckpt/config.json"); });
}

TEST(LmConfig, takes_every_size_from_the_objects) {
  const LmConfig config = parse_lm_config(some_config().dump(), "x");
  for (const TransformerConfig& part : {config.backbone, config.decoder}) {
    EXPECT_EQ(part.num_layers, 3);
    EXPECT_EQ(part.num_heads, 6);
    EXPECT_EQ(part.num_kv_heads, 2);
    EXPECT_EQ(part.embed_dim, 84);
    EXPECT_EQ(part.head_dim(), 14);
    EXPECT_EQ(part.kv_dim(), 28);
    EXPECT_EQ(part.intermediate_dim, 37);
    EXPECT_EQ(part.max_seq_len, 99);
    EXPECT_FLOAT_EQ(part.norm_eps, 1e-6f);
    EXPECT_EQ(part.rope_base, 10000);
    EXPECT_EQ(part.scale_factor, 8);
  }
  EXPECT_EQ(config.text_vocab_size, 101);
  EXPECT_EQ(config.audio_vocab_size, 53);
}

TEST(LmConfig, what_is_the_same_in_every_model_may_be_left_out) {
  json config = some_config();
  for (const char* field : {"norm_eps", "rope_base", "scale_factor"}) config["decoder"].erase(field);
  const TransformerConfig decoder = parse_lm_config(config.dump(), "x").decoder;
  EXPECT_FLOAT_EQ(decoder.norm_eps, 1e-5f);
  EXPECT_EQ(decoder.rope_base, 500000);
  EXPECT_EQ(decoder.scale_factor, 32);
}

TEST(LmConfig, flavors_have_the_published_sizes) {
  struct Flavor {
    std::string name;
    int64_t layers, width, heads, kv_heads, head_dim, mlp, context;
  };
  const Flavor flavors[] = {{"llama-3B", 28, 3072, 24, 8, 128, 8192, 8192},
                            {"llama-7B", 32, 4096, 32, 8, 128, 14336, 8192},
                            {"llama-300M", 3, 3072, 8, 4, 384, 8192, 2048},
                            {"llama-400M", 4, 3072, 8, 4, 384, 8192, 2048}};
  for (const Flavor& flavor : flavors) {
    for (const std::string& name : {flavor.name, flavor.name.substr(6)}) {
      json config = some_config();
      config.erase("backbone");
      config["backbone_flavor"] = name;
      const TransformerConfig c = parse_lm_config(config.dump(), "x").backbone;
      EXPECT_EQ(c.num_layers, flavor.layers) << name;
      EXPECT_EQ(c.embed_dim, flavor.width) << name;
      EXPECT_EQ(c.num_heads, flavor.heads) << name;
      EXPECT_EQ(c.num_kv_heads, flavor.kv_heads) << name;
      EXPECT_EQ(c.head_dim(), flavor.head_dim) << name;
      EXPECT_EQ(c.intermediate_dim, flavor.mlp) << name;
      EXPECT_EQ(c.max_seq_len, flavor.context) << name;
    }
  }
}

TEST(LmConfig, unknown_flavors_are_refused_with_the_known_ones) {
  for (const std::string part : {"backbone", "decoder"}) {
    for (const std::string flavor : {"llama-11B", "", "LLAMA-3B", "3b", "llama-llama-3B"}) {
      json config = some_config();
      config.erase(part);
      config[part + "_flavor"] = flavor;
      EXPECT_THAT(complaint(config), AllOf(StartsWith("ckpt/config.json: "), HasSubstr(part + "_flavor"),
                                           HasSubstr('"' + flavor + '"'), HasSubstr("llama-300M")));
    }
  }
}

TEST(LmConfig, every_number_is_checked_and_named) {
  const std::vector<json> no_size = {nullptr, "12", true, 1.5, -1, 0, 1e300, uint64_t{1} << 63, json::array({8})};
  for (const char* part : {"", "backbone", "decoder"}) {
    const std::vector<std::string> fields =
        *part == 0 ? std::vector<std::string>{"text_vocab_size", "audio_vocab_size", "muq_dim", "audio_num_codebooks"}
                   : std::vector<std::string>{"num_layers", "num_heads",        "num_kv_heads",
                                              "embed_dim",  "intermediate_dim", "max_seq_len"};
    for (const std::string& field : fields) {
      const std::string name = *part == 0 ? field : std::string(part) + "." + field;
      json config = some_config();
      json& object = *part == 0 ? config : config[part];
      for (const json& value : no_size) {
        object[field] = value;
        EXPECT_THAT(complaint(config), StartsWith("ckpt/config.json: " + name)) << value;
      }
      object.erase(field);
      EXPECT_EQ(complaint(config), "ckpt/config.json: " + name + " is missing");
    }
  }
}

TEST(LmConfig, numbers_that_need_not_be_whole_are_checked_and_named) {
  for (const std::string field : {"norm_eps", "rope_base", "scale_factor"}) {
    for (const json& value : {json(nullptr), json("1"), json(-1e-3), json(0), json(1e300)}) {
      json config = some_config();
      config["backbone"][field] = value;
      EXPECT_THAT(complaint(config), StartsWith("ckpt/config.json: backbone." + field)) << value;
    }
  }
}

TEST(LmConfig, another_architecture_is_refused) {
  json config = some_config();
  config["decoder"]["causal"] = true;
  parse_lm_config(config.dump(), "x");
  config["decoder"]["causal"] = false;
  EXPECT_THAT(complaint(config), StartsWith("ckpt/config.json: decoder.causal is false"));
}

TEST(LmConfig, heads_that_do_not_divide_are_refused) {
  const auto with = [](const char* field, int64_t value) {
    json config = some_config();
    config["decoder"][field] = value;
    return complaint(config);
  };
  EXPECT_THAT(with("num_heads", 5), AllOf(HasSubstr("decoder.embed_dim 84"), HasSubstr("5 heads")));
  EXPECT_THAT(with("num_heads", 4), AllOf(HasSubstr("decoder.embed_dim 84"), HasSubstr("even")));  // heads of 21
  EXPECT_THAT(with("num_kv_heads", 4), AllOf(HasSubstr("decoder.num_heads 6"), HasSubstr("num_kv_heads 4")));
  EXPECT_THAT(with("num_kv_heads", 12), AllOf(HasSubstr("decoder.num_heads 6"), HasSubstr("num_kv_heads 12")));
  EXPECT_THAT(with("max_seq_len", 7), AllOf(HasSubstr("decoder.max_seq_len is 7"), HasSubstr("8")));
}

TEST(LmConfig, another_number_of_codebooks_is_refused) {
  json config = some_config();
  config["audio_num_codebooks"] = 4;
  EXPECT_THAT(complaint(config), HasSubstr("audio_num_codebooks is 4"));
}

TEST(LmConfig, parts_of_another_kind_are_refused) {
  for (const char* field : {"backbone", "decoder", "backbone_flavor", "decoder_flavor"}) {
    json config = some_config();
    config[field] = 3;
    EXPECT_THAT(complaint(config), StartsWith(std::string("ckpt/config.json: ") + field));
  }
}

TEST(LmConfig, that_of_the_other_model_is_told) {
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { parse_lm_config(R"({"codebook_size": 8192})", "x/config.json"); }),
              AllOf(HasSubstr("x/config.json"), HasSubstr("codec")));
}

}  // namespace
}  // namespace heartmula

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/testing.h"
#include "codec/config.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

CodecConfig parsed(const json& config) {
  return parse_codec_config(config.dump(), "codec/config.json");
}

std::string complaint(const json& config) {
  return error_of(ErrorKind::kUser, [&] { parsed(config); });
}

// codec.md A1: what stands in no config.json is as in the released checkpoint.
TEST(CodecConfig, an_empty_one_is_the_released_checkpoint) {
  const CodecConfig c = parsed(json::object());
  EXPECT_EQ(c.codebook_size, 8192);
  EXPECT_EQ(c.codebook_dim, 32);
  EXPECT_EQ(c.dim, 512);
  EXPECT_EQ(c.width(), 1536);
  EXPECT_EQ(c.width_2(), 3072);
  EXPECT_EQ(c.mlp_width(c.width()), 4096);
  EXPECT_EQ(c.mlp_width(c.width_2()), 8192);
  EXPECT_EQ(c.num_layers, 24);
  EXPECT_EQ(c.num_layers_2, 6);
  EXPECT_EQ(c.in_channels, 1024);
  EXPECT_EQ(c.out_channels, 256);
  EXPECT_EQ(c.latent_dim, 128);
  EXPECT_EQ(c.top_channels(), 2048);
  EXPECT_EQ(c.samples_per_latent(), 1920);
  EXPECT_EQ(c.upsample_factors, (std::vector<int64_t>{5, 4, 4, 4, 3}));
}

TEST(CodecConfig, every_size_is_taken) {
  const CodecConfig c = parsed({{"codebook_size", 99},
                                {"codebook_dim", 7},
                                {"dim", 13},
                                {"num_attention_heads", 3},
                                {"attention_head_dim", 22},
                                {"num_layers", 4},
                                {"num_layers_2", 5},
                                {"in_channels", 33},
                                {"out_channels", 10},
                                {"latent_hidden_dim", 5},
                                {"init_channel", 6},
                                {"delay_kernel_size", 9},
                                {"default_kernel_size", 8},
                                {"res_kernel_size", 3},
                                {"upsample_factors", {2, 2, 4, 4, 6}},
                                {"upsample_kernel_sizes", {4, 4, 8, 8, 12}},
                                {"num_samples", 5}});
  EXPECT_EQ(c.codebook_size, 99);
  EXPECT_EQ(c.codebook_dim, 7);
  EXPECT_EQ(c.dim, 13);
  EXPECT_EQ(c.width(), 66);
  EXPECT_EQ(c.mlp_width(c.width()), 256);
  EXPECT_EQ(c.width_2(), 132);
  EXPECT_EQ(c.mlp_width(c.width_2()), 512);
  EXPECT_EQ(c.num_layers, 4);
  EXPECT_EQ(c.num_layers_2, 5);
  EXPECT_EQ(c.latent_dim, 5);
  EXPECT_EQ(c.top_channels(), 192);
  EXPECT_EQ(c.delay_kernel, 9);
  EXPECT_EQ(c.kernel, 8);
  EXPECT_EQ(c.res_kernel, 3);
  EXPECT_EQ(c.num_samples, 5);
}

TEST(CodecConfig, every_number_is_checked_and_named) {
  for (const char* field :
       {"codebook_size", "codebook_dim", "dim", "num_attention_heads", "attention_head_dim", "num_layers",
        "num_layers_2", "in_channels", "out_channels", "latent_hidden_dim", "init_channel", "delay_kernel_size",
        "default_kernel_size", "res_kernel_size", "num_samples", "num_quantizers", "sample_rate"}) {
    for (const json& value : {json(nullptr), json("8"), json(1.5), json(-1), json(0), json(uint64_t{1} << 63)}) {
      EXPECT_THAT(complaint({{field, value}}), StartsWith(std::string("codec/config.json: ") + field)) << value;
    }
  }
}

TEST(CodecConfig, lists_of_another_length_or_kind_are_refused) {
  for (const char* field : {"upsample_factors", "upsample_kernel_sizes"}) {
    for (const json& value : {json(5), json::array(), json({5, 4, 4, 4}), json({5, 4, 4, 4, 3, 1}),
                              json({5, 4, 4, 4, "3"}), json({5, 4, 4, 4, 0}), json({5, 4, 4, 4, 1000})}) {
      EXPECT_THAT(complaint({{field, value}}), StartsWith(std::string("codec/config.json: ") + field)) << value;
    }
  }
}

TEST(CodecConfig, another_architecture_is_refused) {
  parsed({{"causal", true}, {"num_bands", 1}, {"norm_type", "ada_norm_single"}, {"use_cosine_sim", false}});
  for (const json& config : {json{{"causal", false}}, json{{"num_bands", 4}}, json{{"norm_type", "layer_norm"}},
                             json{{"use_cosine_sim", true}}}) {
    EXPECT_THAT(complaint(config), HasSubstr("computes only models in which it is")) << config;
  }
}

TEST(CodecConfig, sizes_that_do_not_fit_together_are_refused) {
  EXPECT_THAT(complaint({{"num_quantizers", 4}}), HasSubstr("num_quantizers is 4, but must be 8"));
  EXPECT_THAT(complaint({{"sample_rate", 44100}}), HasSubstr("sample_rate is 44100"));
  EXPECT_THAT(complaint({{"attention_head_dim", 63}}), HasSubstr("attention_head_dim 63"));
  EXPECT_THAT(complaint({{"latent_hidden_dim", 64}}), AllOf(HasSubstr("out_channels 256"), HasSubstr("64")));
  EXPECT_THAT(complaint({{"dim", 500}}), AllOf(HasSubstr("in_channels 1024"), HasSubstr("dim 500")));
  EXPECT_THAT(complaint({{"delay_kernel_size", 4}}), HasSubstr("delay_kernel_size 4"));
  EXPECT_THAT(complaint({{"num_samples", 1}}), AllOf(HasSubstr("960"), HasSubstr("1920")));
  EXPECT_THAT(complaint({{"upsample_kernel_sizes", {10, 8, 8, 8, 7}}}), HasSubstr("upsample_kernel_sizes"));
}

TEST(CodecConfig, that_of_the_other_model_is_told) {
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { parse_codec_config(R"({"backbone_flavor": "x"})", "x/config.json"); }),
              testing::AllOf(testing::HasSubstr("x/config.json"), testing::HasSubstr("language model")));
}

}  // namespace
}  // namespace heartmula

#include "codec/config.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "base/json_fields.h"

namespace heartmula {
namespace {

using namespace std::string_view_literals;
// What is read, and what only training and the encoder need.
constexpr std::array kFields = {"num_quantizers"sv,
                                "sample_rate"sv,
                                "codebook_size"sv,
                                "codebook_dim"sv,
                                "dim"sv,
                                "num_attention_heads"sv,
                                "attention_head_dim"sv,
                                "num_layers"sv,
                                "num_layers_2"sv,
                                "in_channels"sv,
                                "out_channels"sv,
                                "latent_hidden_dim"sv,
                                "init_channel"sv,
                                "delay_kernel_size"sv,
                                "default_kernel_size"sv,
                                "res_kernel_size"sv,
                                "upsample_factors"sv,
                                "upsample_kernel_sizes"sv,
                                "num_samples"sv,
                                "causal"sv,
                                "num_bands"sv,
                                "norm_type"sv,
                                "use_cosine_sim"sv,
                                "commitment_weight"sv,
                                "decay"sv,
                                "threshold_ema_dead_code"sv,
                                "downsample_factors"sv,
                                "downsample_kernel_sizes"sv,
                                "student"sv};

CodecStudent parse_student(const JsonFields& fields) {
  CodecStudent student;
  student.steps = fields.integers("steps", 1, 1000);
  if (fields.has("base")) student.base = fields.text("base");
  return student;
}

}  // namespace

int64_t CodecConfig::samples_per_latent() const {
  int64_t samples = num_samples;
  for (const int64_t factor : upsample_factors) samples *= factor;
  return samples;
}

CodecConfig parse_codec_config(std::string_view text, const std::string& name) {
  const nlohmann::json json = parse_json_object(text, name);
  const JsonFields fields(json, name);
  if (fields.has("backbone_flavor")) {
    throw user_error("{}: is the configuration of a language model; that of a codec is asked for", name);
  }
  CodecConfig c;
  c.source = name;
  fields.integer_or("num_quantizers", 8, 8, 8);
  fields.integer_or("sample_rate", 48000, 48000, 48000);
  c.codebook_size = fields.integer_or("codebook_size", 1, 1 << 20, c.codebook_size);
  c.codebook_dim = fields.integer_or("codebook_dim", 1, 1 << 14, c.codebook_dim);
  c.dim = fields.integer_or("dim", 1, 1 << 14, c.dim);
  c.num_heads = fields.integer_or("num_attention_heads", 1, 1024, c.num_heads);
  c.head_dim = fields.integer_or("attention_head_dim", 2, 4096, c.head_dim);
  c.num_layers = fields.integer_or("num_layers", 1, 1024, c.num_layers);
  c.num_layers_2 = fields.integer_or("num_layers_2", 1, 1024, c.num_layers_2);
  c.in_channels = fields.integer_or("in_channels", 1, 1 << 16, c.in_channels);
  c.out_channels = fields.integer_or("out_channels", 2, 1 << 14, c.out_channels);
  c.latent_dim = fields.integer_or("latent_hidden_dim", 1, 1 << 13, c.latent_dim);
  c.init_channel = fields.integer_or("init_channel", 1, 1 << 11, c.init_channel);
  c.delay_kernel = fields.integer_or("delay_kernel_size", 1, 99, c.delay_kernel);
  c.kernel = fields.integer_or("default_kernel_size", 1, 99, c.kernel);
  c.res_kernel = fields.integer_or("res_kernel_size", 1, 99, c.res_kernel);
  c.upsample_factors = fields.integers_or("upsample_factors", 5, 1, 16, c.upsample_factors);
  c.num_samples = fields.integer_or("num_samples", 1, 16, c.num_samples);
  fields.require_if_there("causal", true);
  fields.require_if_there("num_bands", 1);
  fields.require_if_there("norm_type", "ada_norm_single");
  fields.require_if_there("use_cosine_sim", false);
  fields.warn_of_unknown_in_config(kFields);
  if (fields.has("student")) c.student = parse_student(fields.object("student"));

  std::vector<int64_t> kernels;
  for (const int64_t factor : c.upsample_factors) kernels.push_back(2 * factor);
  if (fields.integers_or("upsample_kernel_sizes", 5, 1, 32, kernels) != kernels) {
    throw user_error("{}: upsample_kernel_sizes must be twice the upsample_factors", name);
  }
  if (c.head_dim % 2 != 0) throw user_error("{}: attention_head_dim {} is odd", name, c.head_dim);
  if (c.out_channels != 2 * c.latent_dim) {
    throw user_error("{}: out_channels {} is not twice latent_hidden_dim {}", name, c.out_channels, c.latent_dim);
  }
  if (c.in_channels != 2 * c.out_channels + c.dim) {
    throw user_error("{}: in_channels {} is not 2 * out_channels {} + dim {}", name, c.in_channels, c.out_channels,
                     c.dim);
  }
  if (c.delay_kernel % 2 == 0) throw user_error("{}: delay_kernel_size {} is even", name, c.delay_kernel);
  if (c.samples_per_latent() != 1920) {
    throw user_error("{}: upsample_factors times num_samples make {} samples a latent frame, not 1920", name,
                     c.samples_per_latent());
  }
  return c;
}

CodecConfig read_codec_config(const std::filesystem::path& path) {
  return read_downloaded(path, [&path] { return parse_codec_config(read_file(path), path.string()); });
}

}  // namespace heartmula

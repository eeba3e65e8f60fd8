// The sizes of HeartCodec, from HeartCodec-oss/config.json (codec.md A1).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

/// What a flow was made into by distillation (codec_speed.md C3): it solves in few steps, without guidance.
struct CodecStudent {
  std::vector<int64_t> steps;  // that it was trained for, on uniform grids; the first is the default
  std::string base;            // the folder of the codec that the tensors come from which this one lacks, or empty
};

struct CodecConfig {
  std::string source;  // the file, for messages

  // residual VQ
  int64_t codebook_size = 8192;
  int64_t codebook_dim = 32;
  int64_t dim = 512;

  // velocity transformer
  int64_t num_heads = 24;  // of both stacks
  int64_t head_dim = 64;   // of the first; twice that in the second
  int64_t num_layers = 24;
  int64_t num_layers_2 = 6;
  int64_t in_channels = 1024;  // latents, in-context latents, conditioning
  int64_t out_channels = 256;  // latents of both audio channels

  // wave decoder
  int64_t latent_dim = 128;  // of one audio channel
  int64_t init_channel = 64;
  int64_t delay_kernel = 5;
  int64_t kernel = 7;
  int64_t res_kernel = 7;
  std::vector<int64_t> upsample_factors = {5, 4, 4, 4, 3};
  int64_t num_samples = 2;  // repeats of each sample at the end

  std::optional<CodecStudent> student = {};

  int64_t width() const { return num_heads * head_dim; }
  int64_t width_2() const { return 2 * width(); }
  /// floor(8 width / 3), rounded up to a multiple of 256.
  static int64_t mlp_width(int64_t width) { return (8 * width / 3 + 255) / 256 * 256; }
  /// Channels of the wave decoder before its first up-sampling.
  int64_t top_channels() const { return init_channel << upsample_factors.size(); }
  /// Samples a channel for each latent frame.
  int64_t samples_per_latent() const;
};

/// Throws Error(kUser) with file and field.
CodecConfig parse_codec_config(std::string_view text, const std::string& name);
CodecConfig read_codec_config(const std::filesystem::path& path);

}  // namespace heartmula

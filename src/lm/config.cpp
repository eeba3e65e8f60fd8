#include "lm/config.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "base/json_fields.h"

namespace heartmula {
namespace {

constexpr double kSmallestEps = 1e-12;

using namespace std::string_view_literals;
constexpr std::array kTransformerFields = {"num_layers"sv,       "num_heads"sv,   "num_kv_heads"sv, "embed_dim"sv,
                                           "intermediate_dim"sv, "max_seq_len"sv, "norm_eps"sv,     "rope_base"sv,
                                           "scale_factor"sv,     "causal"sv};
constexpr std::array kFields = {
    "backbone_flavor"sv,  "decoder_flavor"sv,      "backbone"sv, "decoder"sv, "text_vocab_size"sv,
    "audio_vocab_size"sv, "audio_num_codebooks"sv, "muq_dim"sv};

struct KnownFlavor {
  std::string_view name;
  TransformerConfig config;
};

const std::array<KnownFlavor, 4> kFlavors = {{
    {"llama-3B", {28, 24, 8, 3072, 8192, 8192}},
    {"llama-7B", {32, 32, 8, 4096, 14336, 8192}},
    {"llama-300M", {3, 8, 4, 3072, 8192, 2048}},
    {"llama-400M", {4, 8, 4, 3072, 8192, 2048}},
}};

TransformerConfig known_flavor(const std::string& flavor, const std::string& field, const std::string& name) {
  for (const KnownFlavor& known : kFlavors) {
    if (flavor == known.name || "llama-" + flavor == known.name) return known.config;
  }
  throw user_error(
      "{}: {}_flavor is \"{}\", which is none of llama-3B, llama-7B, llama-300M, llama-400M; give its sizes in an "
      "object \"{}\"",
      name, field, flavor, field);
}

}  // namespace

TransformerConfig read_transformer_config(const JsonFields& fields, const std::string& name, const char* part) {
  TransformerConfig config;
  config.num_layers = fields.integer("num_layers", 1, 1024);
  config.num_heads = fields.integer("num_heads", 1, 1024);
  config.num_kv_heads = fields.integer("num_kv_heads", 1, 1024);
  config.embed_dim = fields.integer("embed_dim", 2, 1 << 16);
  config.intermediate_dim = fields.integer("intermediate_dim", 1, 1 << 18);
  config.max_seq_len = fields.integer("max_seq_len", 1, 1 << 20);
  if (fields.has("norm_eps")) config.norm_eps = static_cast<float>(fields.number("norm_eps", kSmallestEps, 1.0));
  if (fields.has("rope_base")) config.rope_base = fields.number("rope_base", 1.0, 1e12);
  if (fields.has("scale_factor")) config.scale_factor = fields.number("scale_factor", 1.0, 1e6);
  fields.require_if_there("causal", true);
  fields.warn_of_unknown(kTransformerFields);
  if (config.embed_dim % config.num_heads != 0 || config.head_dim() % 2 != 0) {
    throw user_error("{}: {}.embed_dim {} does not make {} heads of an even size", name, part, config.embed_dim,
                     config.num_heads);
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    throw user_error("{}: {}.num_heads {} is not a multiple of num_kv_heads {}", name, part, config.num_heads,
                     config.num_kv_heads);
  }
  return config;
}

LmConfig parse_lm_config(std::string_view text, const std::string& name) {
  const nlohmann::json json = parse_json_object(text, name);
  const JsonFields fields(json, name);
  if (!fields.has("backbone_flavor") && fields.has("codebook_size")) {
    throw user_error("{}: is the configuration of a codec; that of a language model is asked for", name);
  }
  LmConfig config;
  config.source = name;
  config.backbone_flavor = fields.text("backbone_flavor");
  config.decoder_flavor = fields.text("decoder_flavor");
  config.backbone = fields.has("backbone") ? read_transformer_config(fields.object("backbone"), name, "backbone")
                                           : known_flavor(config.backbone_flavor, "backbone", name);
  config.decoder = fields.has("decoder") ? read_transformer_config(fields.object("decoder"), name, "decoder")
                                         : known_flavor(config.decoder_flavor, "decoder", name);
  config.text_vocab_size = fields.integer("text_vocab_size", 1, 1 << 24);
  config.audio_vocab_size = fields.integer("audio_vocab_size", 1, 1 << 20);
  config.muq_dim = fields.integer("muq_dim", 1, 1 << 16);
  fields.integer("audio_num_codebooks", kCodebooks, kCodebooks);
  fields.warn_of_unknown_in_config(kFields);
  if (config.decoder.max_seq_len < kCodebooks) {
    throw user_error("{}: decoder.max_seq_len is {}, but a frame needs {}", name, config.decoder.max_seq_len,
                     kCodebooks);
  }
  return config;
}

LmConfig read_lm_config(const std::filesystem::path& path) {
  return read_downloaded(path, [&path] { return parse_lm_config(read_file(path), path.string()); });
}

void skip_layers(LmConfig& config, int64_t count) {
  TransformerConfig& backbone = config.backbone;
  if (count >= backbone.num_layers) {
    throw user_error("--skip_layers {}: the backbone has {} layers", count, backbone.num_layers);
  }
  backbone.num_layers -= count;
  backbone.skipped += count;
}

}  // namespace heartmula

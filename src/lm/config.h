// The sizes of the language model, from HeartMuLa-oss-*/config.json (lm.md B1).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "heartmula/frame.h"

namespace heartmula {

class JsonFields;

/// A causal transformer of the Llama kind.
struct TransformerConfig {
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t embed_dim = 0;
  int64_t intermediate_dim = 0;
  int64_t max_seq_len = 0;
  float norm_eps = 1e-5f;
  double rope_base = 500000.0;
  double scale_factor = 32.0;
  int64_t skipped = 0;  // stored layers that are left out, in the middle; num_layers does not count them

  /// The i-th layer's number in the checkpoint.
  int64_t stored_layer(int64_t i) const { return i < num_layers / 2 ? i : i + skipped; }
  int64_t head_dim() const { return embed_dim / num_heads; }
  int64_t query_dim() const { return num_heads * head_dim(); }
  int64_t kv_dim() const { return num_kv_heads * head_dim(); }
};

struct LmConfig {
  std::string source;  // the file, for messages
  TransformerConfig backbone;
  TransformerConfig decoder;
  std::string backbone_flavor;
  std::string decoder_flavor;
  int64_t text_vocab_size = 0;
  int64_t audio_vocab_size = 0;
  int64_t muq_dim = 0;
};

/// The sizes that an object `part` of the file `name` gives. Throws Error(kUser) with file and field.
TransformerConfig read_transformer_config(const JsonFields& fields, const std::string& name, const char* part);

/// Throws Error(kUser) with file and field. A flavor is one of the known sizes (llama-3B, llama-7B, llama-300M,
/// llama-400M, with or without "llama-") unless the object `backbone` or `decoder` gives the numbers.
LmConfig parse_lm_config(std::string_view text, const std::string& name);
LmConfig read_lm_config(const std::filesystem::path& path);
/// Leaves out this many layers of the backbone, from its middle outward (arXiv:2506.21103, of a fixed model). Throws
/// Error(kUser) that names --skip_layers if none would be left.
void skip_layers(LmConfig& config, int64_t count);

}  // namespace heartmula

// Any bytes are a config.json of a model, a gen_config.json or a request, or an Error(kUser) of one line. What is read
// keeps the promises that the models count on.
// floors: song
#include <spdlog/spdlog.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "codec/config.h"
#include "heartmula/error.h"
#include "lm/config.h"
#include "song/request.h"
#include "text/gen_config.h"

namespace {

using namespace heartmula;

void require(bool condition) {
  if (!condition) std::abort();
}

template <typename Read>
void refuse_or(const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::kUser);
    require(std::string_view(error.what()).find('\n') == std::string_view::npos);
  }
}

void check(const TransformerConfig& config) {
  require(config.head_dim() > 0 && config.head_dim() % 2 == 0 && config.query_dim() == config.embed_dim);
  require(config.num_kv_heads > 0 && config.num_heads % config.num_kv_heads == 0);
  require(config.norm_eps > 0 && config.rope_base >= 1 && config.scale_factor >= 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);  // of unknown fields
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  refuse_or([&] {
    const LmConfig config = parse_lm_config(text, "fuzz");
    check(config.backbone);
    check(config.decoder);
  });
  refuse_or([&] {
    const CodecConfig config = parse_codec_config(text, "fuzz");
    require(config.samples_per_latent() == 1920 && config.head_dim % 2 == 0 && config.width_2() > 0);
    require(config.in_channels == 2 * config.out_channels + config.dim && config.out_channels == 2 * config.latent_dim);
  });
  refuse_or([&] {
    const GenConfig config = GenConfig::parse(text, "fuzz");
    require(config.text_bos_id >= 0 && config.text_eos_id >= 0 && config.audio_eos_id >= 0 && config.empty_id >= 0);
  });
  refuse_or([&] { validate(parse_request(text, "fuzz").request); });
  return 0;
}

#include "measure/made_song.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"
#include "lm/muq_embed.h"
#include "song/codes_file.h"
#include "song/request.h"

namespace heartmula {

MadeSong read_made_song(Models& models, const std::string& path, int64_t most_frames) {
  Codes codes = read_codes(path);
  if (codes.frames.empty()) throw user_error("{}: holds no frames", codes.name);
  if (codes.origin.request_json.empty()) {
    throw user_error("{}: holds no request; songs of `heartmula generate --save_codes` do", codes.name);
  }
  const Request request = parse_request(codes.origin.request_json, codes.name).request;
  if (!request.song.seed) throw user_error("{}: its request has no seed", codes.name);
  if (!request.song.load_codes.empty()) {
    throw user_error("{}: goes on from {}; only songs that were made from their beginning are measured", codes.name,
                     request.song.load_codes);
  }
  const ModelIdentity& model = models.lm_identity();
  if (codes.origin.language_model != model.fingerprint) {
    throw user_error("{}: made with another language model ({}) than {} ({})", codes.name, codes.origin.language_model,
                     model.name, model.fingerprint);
  }
  const LmConfig& config = models.lm_config();
  check_codes(config, codes.frames, codes.name);
  MadeSong song = {
      .name = codes.name,
      .frames = std::move(codes.frames),
      .prompt = make_prompt(models.tokenizer(), models.gen_config(), request.song.tags, request.song.lyrics),
      .settings = request.song.frame_loop(models.gen_config().audio_eos_id),
      .rule = {},
      .seed = *request.song.seed};
  if (!request.song.muq_embed.empty()) song.prompt.muq_embed = read_muq_embed(request.song.muq_embed, config.muq_dim);
  song.rule = {song.settings.sampling, song.settings.min_frames(), song.settings.audio_eos_id};
  if (most_frames > 0) song.frames.resize(std::min(song.frames.size(), static_cast<size_t>(most_frames)));
  song.settings.max_audio_length_ms = (std::ssize(song.frames) - 1) * kFrameMs;
  if (song.settings.max_audio_length_ms > longest_audio_ms(config, song.prompt)) {
    throw user_error(
        "{}: {} tokens and {} frames are more than the model's context of {}, as in a song made with "
        "--long: leave it out",
        codes.name, song.prompt.text_ids.size(), song.frames.size(), config.backbone.max_seq_len);
  }
  if (request.song.guesses_change_it()) song.guesses = request.song.guesses_flag();
  return song;
}

void KeptCodes::keep(const SamplingSettings& settings, std::span<const float> guided, int64_t allowed) {
  const size_t most = std::min(guided.size(), static_cast<size_t>(allowed));
  const size_t count = std::min(most, static_cast<size_t>(settings.topk));
  std::vector<float> scaled(guided.begin(), guided.begin() + static_cast<std::ptrdiff_t>(most));
  for (float& value : scaled) value /= settings.temperature;
  std::vector<float> sorted = scaled;
  const auto last = sorted.begin() + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(sorted.begin(), last, sorted.end(), std::greater<>());
  tokens.clear();
  logits.clear();
  for (size_t v = 0; v < most; ++v) {
    if (scaled[v] < *last) continue;
    tokens.push_back(static_cast<int32_t>(v));
    logits.push_back(guided[v]);
  }
}

}  // namespace heartmula

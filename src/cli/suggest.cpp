#include "cli/suggest.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "text/spelling.h"

namespace heartmula {
namespace {

/// What other programs of this kind call our flags (without dashes before, with "_" between).
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"o", "save_path"},
    {"out", "save_path"},
    {"output", "save_path"},
    {"output_path", "save_path"},
    {"output_file", "save_path"},
    {"m", "model_path"},
    {"model", "model_path"},
    {"ckpt", "model_path"},
    {"checkpoint", "model_path"},
    {"model_dir", "model_path"},
    {"mula", "mula_path"},
    {"lm_path", "mula_path"},
    {"codec", "codec_path"},
    {"tokenizer_path", "tokenizer"},
    {"duration", "max_audio_length_ms"},
    {"duration_ms", "max_audio_length_ms"},
    {"duration_seconds", "max_audio_length_ms"},
    {"length", "max_audio_length_ms"},
    {"max_length", "max_audio_length_ms"},
    {"max_audio_length_seconds", "max_audio_length_ms"},
    {"music_length_ms", "max_audio_length_ms"},
    {"k", "topk"},
    {"top_k", "topk"},
    {"temp", "temperature"},
    {"cfg", "cfg_scale"},
    {"guidance", "cfg_scale"},
    {"guidance_scale", "cfg_scale"},
    {"steps", "codec_steps"},
    {"flow_steps", "codec_steps"},
    {"num_steps", "codec_steps"},
    {"num_inference_steps", "codec_steps"},
    {"codec_cfg_scale", "codec_guidance_scale"},
    {"dtype", "mula_dtype"},
    {"precision", "mula_dtype"},
    {"t", "threads"},
    {"n_threads", "threads"},
    {"num_threads", "threads"},
    {"j", "threads"},
    {"s", "seed"},
    {"random_seed", "seed"},
    {"prompt", "tags"},
    {"style", "tags"},
    {"styles", "tags"},
    {"caption", "tags"},
    {"genre", "tags"},
    {"text", "lyrics"},
    {"lyric", "lyrics"},
    {"low_vram", "lazy_load"},
    {"mem_saver", "lazy_load"},
    {"offload", "lazy_load"},
    {"adapter", "lora"},
    {"lora_path", "lora"},
    {"ref_audio", "muq_embed"},
    {"muq", "muq_embed"},
    {"response_format", "format"},
    {"fade_out", "fade_out_ms"},
    {"min_length", "min_audio_length_ms"},
    {"no_eos", "ignore_eos"},
    {"resume", "load_codes"},
    {"continue", "load_codes"},
    {"verbose", "debug"},
    {"v", "version"},
    {"h", "help"},
};

/// "--Top-K=3" as "top_k": lower case, one way to write it, nothing around it.
std::string bare(std::string_view word) {
  word = word.substr(0, word.find('='));
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  std::string name(word);
  for (char& c : name) {
    if (c == '-') c = '_';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return name;
}

}  // namespace

std::string suggestion(std::string_view word, std::span<const std::string> candidates) {
  const std::string wanted = bare(word);
  const auto named = [&](std::string_view name) {
    return std::ranges::find_if(candidates, [&](const std::string& candidate) { return bare(candidate) == name; });
  };
  const auto same = named(wanted);
  if (same != candidates.end()) return *same;
  for (const auto& [alias, flag] : kAliases) {
    if (wanted == alias && named(flag) != candidates.end()) return *named(flag);
  }
  std::vector<std::string> names;
  for (const std::string& candidate : candidates) names.push_back(bare(candidate));
  const std::string* nearest = nearest_word(wanted, names);
  return nearest ? candidates[static_cast<size_t>(nearest - names.data())] : "";
}

}  // namespace heartmula

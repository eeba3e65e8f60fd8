#include "song/request.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <system_error>
#include <utility>

#include "audio/tags.h"
#include "base/error.h"
#include "base/file.h"
#include "base/input.h"
#include "base/json_fields.h"
#include "song/settings.h"

namespace heartmula {

FrameLoopSettings SongSettings::frame_loop(int32_t audio_eos_id) const {
  return {.sampling = {topk, static_cast<float>(temperature), static_cast<float>(cfg_scale)},
          .max_audio_length_ms = max_audio_length_ms.value_or(kDefaultAudioLengthMs),
          .audio_eos_id = audio_eos_id,
          .min_audio_length_ms = min_audio_length_ms,
          .ignore_eos = ignore_eos,
          .lossy = lossy,
          .verification = verification};
}

SongSize Request::size(int64_t context, int64_t begin_frames) const {
  return {.frames_of_pass = machine.drafts().frames_of_pass(),
          .streams = song.frame_loop(0).sampling.streams(),
          .context = context,
          .frames_at_once = std::max(kEmbeddingFrames, begin_frames),
          .codec = codec,
          .frames = song.frame_loop(0).max_frames()};
}

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

void check_settings(const Request& request) {
  for (const Setting& setting : settings_table()) setting.type->check(request, setting.flag(), setting.hint);
}

void check_lengths(const Request& request) {
  const SongSettings& song = request.song;
  if (song.max_audio_length_ms && song.min_audio_length_ms > *song.max_audio_length_ms) {
    throw user_error("--min_audio_length_ms is {}, more than --max_audio_length_ms {}", song.min_audio_length_ms,
                     *song.max_audio_length_ms);
  }
}

void check_guesses(const Request& r) {
  if (!r.song.guesses_change_it()) return;
  const bool in_blocks = r.song.verification == GuessVerification::kBlock;
  const bool is_lossy = r.song.lossy != LossyAcceptance::kNone;
  const std::string flag = r.song.guesses_flag();
  if (in_blocks && is_lossy) {
    throw user_error("{} keeps the distribution of songs, and --lossy {} does not: choose one", flag,
                     kLossyAcceptances.name(r.song.lossy));
  }
  if (!r.machine.draft_frames) {
    throw user_error(
        "{} needs --draft_frames N: when guesses are verified must not depend on the time, or no two songs would be "
        "the same",
        flag);
  }
  const DrafterKind drafter = r.machine.drafts().kind;
  if (in_blocks && drafter != DrafterKind::kAuto && drafter != DrafterKind::kFile) {
    throw user_error("{} needs a drafter that knows how likely its guesses are: --drafter FILE, not {}", flag,
                     r.machine.drafter);
  }
}

void check_request(const Request& r) {
  check_settings(r);
  check_lengths(r);
  check_codec_settings(r.codec);
  if (r.machine.drafter == "none" && r.machine.draft_frames.value_or(0) > 0) {
    throw user_error("--draft_frames {} needs a drafter, and --drafter none is none", *r.machine.draft_frames);
  }
  check_guesses(r);
  if (std::error_code unknown;
      !r.machine.kv_swap.empty() && !std::filesystem::is_directory(r.machine.kv_swap, unknown)) {
    throw user_error("--kv_swap {}: {}", r.machine.kv_swap, instead_of_folder(r.machine.kv_swap));
  }
  if (r.song.continue_from_ms && r.song.load_codes.empty()) {
    throw user_error("--continue_from_ms needs --load_codes: the codes to go on from");
  }
  if (r.output.save_path.empty()) throw user_error("--save_path is empty: where shall the song go?");
  resolve_sample_format(r.output.resolved_format(), r.output.sample_format);
}

void validate(const Request& r) {
  check_request(r);
  std::error_code ignored;
  if (r.run.no_clobber && std::filesystem::is_regular_file(r.output.save_path, ignored)) {
    throw user_error("{}: is there already, and --no_clobber was given", r.output.save_path);
  }
  if (std::filesystem::is_directory(r.output.save_path, ignored)) {
    throw user_error("{}: is a folder; name a file in it", r.output.save_path);
  }
}

nlohmann::json to_json(const Request& request) {
  nlohmann::json json;
  for (const Setting& setting : settings_table()) {
    nlohmann::json value = setting.type->get(request);
    if (setting.stored() && !value.is_null()) json[setting.name] = std::move(value);
  }
  return json;
}

StoredRequest parse_request(std::string_view text, const std::string& name, Request defaults) {
  Request request = std::move(defaults);
  const nlohmann::json json = parse_json_object(text, name);
  const bool is_sidecar = json.contains("request");
  if (is_sidecar) JsonFields(json, name).object("request");
  const nlohmann::json& object = is_sidecar ? json["request"] : json;
  for (const auto& item : object.items()) {
    const Setting* setting = find_setting(item.key());
    if (setting == nullptr || !setting->stored()) throw user_error("{}: unknown setting \"{}\"", name, item.key());
  }
  for (const Setting& setting : settings_table()) {
    if (!object.contains(setting.name)) continue;
    const std::string where = name + ": " + setting.name;
    setting.type->set(request, object[setting.name], where);
    setting.type->check(request, where, setting.hint);
  }
  return {.request = std::move(request), .was_made = is_sidecar};
}

StoredRequest read_request(const std::filesystem::path& path, Request defaults) {
  const InputBytes input(path);
  if (const std::optional<std::string> json = read_request_json(input.bytes(), input.name())) {
    StoredRequest stored = parse_request(*json, input.name(), std::move(defaults));
    stored.was_made = true;
    return stored;
  }
  const std::string_view text(reinterpret_cast<const char*>(input.bytes().data()), input.bytes().size());
  return parse_request(text, input.name(), std::move(defaults));
}

}  // namespace heartmula

#include "serve/song_order.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json_fields.h"
#include "serve/route.h"
#include "song/settings.h"

namespace heartmula {
namespace {

constexpr const char* kWhat = "the request";

// Files and folders are the server's, and codes to go on from are another song's.
bool is_for_clients(const Setting& setting) {
  if (!setting.stored() || setting.type->names_files()) return false;
  if (setting.name == "continue_from_ms") return false;
  if (setting.name == "fade_out_ms" || setting.name == "sample_format") return true;
  return setting.group == SettingGroup::kSong || setting.group == SettingGroup::kCodec;
}

nlohmann::json properties(const Request& defaults) {
  nlohmann::json all = request_schema()["properties"];
  nlohmann::json properties = nlohmann::json::object();
  for (const Setting& setting : settings_table()) {
    if (!is_for_clients(setting)) continue;
    nlohmann::json& property = properties[setting.name] = all[setting.name];
    property.erase("x-group");
    property.erase("default");
    if (nlohmann::json value = setting.type->get(defaults); !value.is_null()) property["default"] = std::move(value);
    if (setting.name == "sample_format") property["enum"] = {"s16", "s24"};  // of FLAC, which songs are kept in
  }
  return properties;
}

int64_t integer(const nlohmann::json& object, const char* field, int64_t least, int64_t most) {
  const nlohmann::json& value = object[field];
  const bool is_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(most);
  if (!value.is_number_integer() || is_large || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    throw user_error("{}: {} is {}, but must be an integer {}", kWhat, field, value.dump(), range_text(least, most));
  }
  return value.get<int64_t>();
}

SongBegin parse_begin(const nlohmann::json& begin) {
  if (!begin.is_object()) throw user_error("{}: begin must be an object, not {}", kWhat, begin.dump());
  for (const auto& item : begin.items()) {
    if (item.key() != "song" && item.key() != "to_ms")
      throw user_error("{}: unknown field begin.{}", kWhat, item.key());
  }
  if (!begin.contains("song") || !begin["song"].is_string()) throw user_error("{}: begin.song must be an id", kWhat);
  SongBegin parsed = {.song = begin["song"], .to_ms = {}};
  if (begin.contains("to_ms")) parsed.to_ms = integer(begin, "to_ms", 0, int64_t{1} << 40);
  return parsed;
}

SongOrder parse(const nlohmann::json& order, const Request& defaults) {
  SongOrder parsed = {.request = defaults, .songs = 1, .begin = {}};
  for (const auto& item : order.items()) {
    if (item.key() == "songs" || item.key() == "begin") continue;
    const Setting* setting = find_setting(item.key());
    if (setting == nullptr || !is_for_clients(*setting)) {
      throw user_error("{}: unknown setting \"{}\"", kWhat, item.key());
    }
  }
  for (const Setting& setting : settings_table()) {
    if (!is_for_clients(setting) || !order.contains(setting.name)) continue;
    const std::string where = std::string(kWhat) + ": " + setting.name;
    setting.type->set(parsed.request, order[setting.name], where);
    setting.type->check(parsed.request, where, setting.hint);
  }
  if (order.contains("songs")) parsed.songs = integer(order, "songs", 1, kMostVariations);
  if (order.contains("begin") && !order["begin"].is_null()) parsed.begin = parse_begin(order["begin"]);
  if (parsed.request.output.sample_format == SampleFormat::kF32) {
    throw user_error("{}: sample_format must be s16 or s24: songs are kept as FLAC", kWhat);
  }
  check_lengths(parsed.request);
  check_guesses(parsed.request);
  check_codec_settings(parsed.request.codec);
  return parsed;
}

template <typename Work>
SongOrder as_bad_request(const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    throw HttpError(400, error.what());
  }
}

}  // namespace

nlohmann::json song_settings_schema() {
  return {{"type", "object"}, {"properties", properties(Request())}};
}

nlohmann::json song_order_schema(const Request& defaults) {
  nlohmann::json all = properties(defaults);
  all["songs"] = {{"type", "integer"},
                  {"minimum", 1},
                  {"maximum", kMostVariations},
                  {"default", 1},
                  {"description", "so many variations: seeds one after the other"}};
  all["begin"] = {{"type", {"object", "null"}},
                  {"description", "what the song begins with: the first `to_ms` milliseconds of another one, or all"},
                  {"properties",
                   {{"song", {{"type", "string"}, {"description", "its id"}}},
                    {"to_ms", {{"type", "integer"}, {"minimum", 0}, {"maximum", int64_t{1} << 40}}}}},
                  {"required", {"song"}},
                  {"additionalProperties", false}};
  return {{"type", "object"}, {"properties", std::move(all)}, {"additionalProperties", false}};
}

SongOrder parse_song_order(std::string_view body, const Request& defaults) {
  return as_bad_request([&] { return parse(parse_json_object(body, kWhat), defaults); });
}

SongOrder song_order(const nlohmann::json& order, const Request& defaults) {
  return as_bad_request([&] { return parse(order, defaults); });
}

nlohmann::json song_settings(const Request& request) {
  nlohmann::json json = nlohmann::json::object();
  for (const Setting& setting : settings_table()) {
    nlohmann::json value = setting.type->get(request);
    if (is_for_clients(setting) && !value.is_null()) json[setting.name] = std::move(value);
  }
  return json;
}

}  // namespace heartmula

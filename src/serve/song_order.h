// What a client may ask of a song: the settings of the table that make the music, as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "song/request.h"

namespace heartmula {

inline constexpr int64_t kMostVariations = 16;

/// The past of a song: another one's first frames.
struct SongBegin {
  std::string song;
  std::optional<int64_t> to_ms;  // all of it, if not given
};

struct SongOrder {
  Request request;    // what was not said is as in the defaults
  int64_t songs = 1;  // with seeds one after the other
  std::optional<SongBegin> begin;
};

/// The JSON schema of an order, json-schema.org 2020-12, with the defaults of this server.
nlohmann::json song_order_schema(const Request& defaults);
/// An order's settings by themselves: of a song that was made.
nlohmann::json song_settings_schema();

/// Throws HttpError(400) with the line that the command line would give.
SongOrder parse_song_order(std::string_view body, const Request& defaults);
SongOrder song_order(const nlohmann::json& order, const Request& defaults);

/// Those settings of a request that a client may give, with their values.
nlohmann::json song_settings(const Request& request);

}  // namespace heartmula

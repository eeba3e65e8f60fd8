// floors: serve
//
// What comes from the network before a handler sees it: orders, paths with their parameters, ranges, cookies.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/file.h"
#include "serve/access.h"
#include "serve/http_server.h"
#include "serve/route.h"
#include "serve/song_order.h"

namespace {

using namespace heartmula;

void require(bool condition) {
  if (!condition) std::abort();
}

// What is accepted can be said again, and means the same.
void try_order(std::string_view body) {
  const Request defaults;
  try {
    const SongOrder order = parse_song_order(body, defaults);
    require(order.songs >= 1 && order.songs <= kMostVariations);
    const nlohmann::json settings = song_settings(order.request);
    require(song_settings(song_order(settings, defaults).request) == settings);
  } catch (const HttpError& error) {
    require(error.status() == 400);
    require(std::string_view(error.what()).find('\n') == std::string_view::npos);
  }
}

void try_path(std::string_view path) {
  for (const char* pattern : {"/v1/songs/{id}", "/v1/songs/{id}/audio", "/", "/studio/{file}"}) {
    const auto parts = match_path(pattern, path);
    if (!parts) continue;
    for (const auto& [name, part] : *parts) require(!part.empty() && part.find('/') == std::string::npos);
  }
}

void try_query(const std::string& value) {
  const Route route = {
      .method = "GET",
      .path = "/",
      .name = "fuzz",
      .help = {},
      .query = {{.name = "a", .schema = {{"type", "integer"}, {"minimum", 1}, {"maximum", 9}}, .help = {}},
                {.name = "b", .schema = {{"type", "boolean"}}, .help = {}},
                {.name = "c", .schema = {{"type", "string"}, {"enum", {"x", "y"}}}, .help = {}}}};
  for (const char* name : {"a", "b", "c"}) {
    try {
      check_query(route, {{name, value}});
      require(value.size() <= 5);
    } catch (const HttpError& error) {
      require(error.status() == 400);
    }
  }
}

void try_range(std::string_view header) {
  try {
    const auto range = parse_range(header, 1000);
    if (range) require(range->size > 0 && range->begin + range->size <= 1000);
  } catch (const HttpError& error) {
    require(error.status() == 416);
  }
}

void try_cookie(const std::string& cookie) {
  static const Access access = [] {
    const auto file = std::filesystem::temp_directory_path() / "heartmula-fuzz-keys";
    write_file(file, "me 0123456789abcdef0123456789abcdef\n");
    return Access(file);
  }();
  Call call = {.method = "GET"};
  call.headers["cookie"] = cookie;
  require(!access.owner_of(call));
  call.headers["authorization"] = "Bearer " + cookie;
  require(!access.owner_of(call) || cookie == "0123456789abcdef0123456789abcdef");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      try_order(text);
      break;
    case 1:
      try_path(text);
      break;
    case 2:
      try_query(text);
      break;
    case 3:
      try_range(text);
      break;
    default:
      try_cookie(text);
      break;
  }
  return 0;
}

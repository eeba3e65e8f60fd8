// The routes of the server, by those that they are for.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "serve/access.h"
#include "serve/engine.h"
#include "serve/route.h"
#include "serve/songs.h"

namespace heartmula {

/// What routes tell of this server beside its songs.
struct ServerFacts {
  std::function<EngineStatus()> status;
  std::function<std::string()> metrics;                             // Prometheus' text
  std::function<nlohmann::json()> models;                           // of /v1/models
  std::function<nlohmann::json()> limits;                           // of /v1/limits
  std::function<nlohmann::json(const nlohmann::json& texts)> lint;  // warnings
  const Access* access = nullptr;
};

/// All must outlive the routes' last call.
std::vector<Route> native_routes(Songs& songs, const ServerFacts& facts);
/// OpenAI's: POST /v1/audio/speech.
std::vector<Route> openai_routes(Songs& songs);
/// Those of HeartMuLa-Studio's backend that its page needs.
std::vector<Route> studio_backend_routes(Songs& songs, const ServerFacts& facts);
/// The page.
std::vector<Route> page_routes();
/// GET /openapi.json: a description of the listed ones among `routes`.
Route openapi_route(const std::vector<Route>& routes);

/// The JSON object that a call brings. Throws HttpError(400) if it is none.
nlohmann::json parse_body(const Call& call);
/// These answers, and refusals with each of `errors` and 401, in the form that has this name.
std::vector<ResponseForm> with_errors(std::vector<ResponseForm> responses, const std::vector<int>& errors,
                                      const char* schema = "Error");

}  // namespace heartmula

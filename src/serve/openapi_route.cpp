// GET /openapi.json: the routes' own table, in the words of OpenAPI 3.1.
#include "serve/routes.h"

namespace heartmula {
namespace {

constexpr int kTooManyOrLoading[] = {429, 503};

nlohmann::json parameter_of(const Parameter& parameter, const char* place, bool required) {
  return {{"name", parameter.name},
          {"in", place},
          {"required", required},
          {"description", parameter.help},
          {"schema", parameter.schema}};
}

// The names in braces.
std::vector<std::string> path_parameters(const std::string& path) {
  std::vector<std::string> names;
  for (size_t at = path.find('{'); at != std::string::npos; at = path.find('{', at + 1)) {
    names.push_back(path.substr(at + 1, path.find('}', at) - at - 1));
  }
  return names;
}

nlohmann::json responses_of(const Route& route) {
  nlohmann::json responses = nlohmann::json::object();
  for (const ResponseForm& form : route.responses) {
    nlohmann::json& response = responses[std::to_string(form.status)];
    response["description"] = form.help;
    if (form.type.empty()) continue;
    nlohmann::json& content = response["content"][form.type];
    if (form.type == "application/json") {
      content["schema"] = form.schema;
    } else {
      content = nlohmann::json::object();
    }
    const bool is_full = std::ranges::find(kTooManyOrLoading, form.status) != std::end(kTooManyOrLoading);
    if (is_full) {
      response["headers"]["Retry-After"] = {{"description", "seconds"}, {"schema", {{"type", "integer"}}}};
    }
  }
  return responses;
}

nlohmann::json operation_of(const Route& route) {
  nlohmann::json operation = {{"operationId", route.name}, {"summary", route.help}, {"responses", responses_of(route)}};
  nlohmann::json parameters = nlohmann::json::array();
  for (const std::string& name : path_parameters(route.path)) {
    const Parameter id = {
        .name = name, .schema = {{"type", "string"}, {"minLength", 1}, {"maxLength", 200}}, .help = "of the song"};
    parameters.push_back(parameter_of(id, "path", true));
  }
  for (const Parameter& parameter : route.query) {
    parameters.push_back(parameter_of(parameter, "query", parameter.required));
  }
  if (!parameters.empty()) operation["parameters"] = std::move(parameters);
  if (!route.body.is_null()) {
    operation["requestBody"] = {{"required", true}, {"content", {{route.body_type, {{"schema", route.body}}}}}};
  }
  if (route.is_open) operation["security"] = nlohmann::json::array();
  return operation;
}

nlohmann::json description_of(const std::vector<Route>& routes) {
  nlohmann::json paths = nlohmann::json::object();
  for (const Route& route : routes) {
    if (!route.is_listed) continue;
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(c | 0x20);
    paths[route.path][method] = operation_of(route);
  }
  const nlohmann::json error = {{"type", "object"},
                                {"properties", {{"error", {{"type", "string"}, {"description", "in one line"}}}}},
                                {"required", {"error"}}};
  const nlohmann::json text = {{"type", "string"}};
  const nlohmann::json openai_error = {
      {"type", "object"},
      {"properties", {{"error", {{"type", "object"}, {"properties", {{"message", text}, {"type", text}}}}}}},
      {"required", {"error"}}};
  return {{"openapi", "3.1.0"},
          {"info",
           {{"title", "heartmula serve"},
            {"version", HEARTMULA_VERSION},
            {"description", "Lyrics and tags to songs. The settings are those of `heartmula generate`."}}},
          {"paths", std::move(paths)},
          {"components",
           {{"schemas", {{"Song", song_json_schema()}, {"Error", error}, {"OpenAiError", openai_error}}},
            {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
          {"security", {{{"key", nlohmann::json::array()}}, nlohmann::json::object()}}};
}

}  // namespace

Route openapi_route(const std::vector<Route>& routes) {
  return {.method = "GET",
          .path = "/openapi.json",
          .name = "openapi",
          .help = "This description",
          .is_open = true,
          .is_listed = false,
          .handler = [description = description_of(routes)](const Call&) { return Answer::json(description); }};
}

}  // namespace heartmula

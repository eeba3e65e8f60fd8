// The studio: a page and what it is made of, embedded in the program.
#include "serve/routes.h"
#include "serve/studio_files.h"

namespace heartmula {
namespace {

std::string type_of(std::string_view file) {
  if (file.ends_with(".html")) return "text/html; charset=utf-8";
  if (file.ends_with(".css")) return "text/css; charset=utf-8";
  if (file.ends_with(".js")) return "text/javascript; charset=utf-8";
  return "image/svg+xml";
}

Answer file_answer(const StudioFile& file) {
  return {.type = type_of(file.name),
          .body = std::string(file.bytes),
          .headers = {{"Cache-Control", "no-cache"}}};  // a newer program brings a newer page
}

}  // namespace

std::vector<Route> page_routes() {
  const auto page = [](const Call& call) {
    const auto part = call.path.find("file");
    const std::string name = part == call.path.end() ? "index.html" : part->second;
    for (const StudioFile& file : studio_files()) {
      if (file.name == name) return file_answer(file);
    }
    throw HttpError(404, "there is no such file");
  };
  std::vector<Route> routes;
  for (const char* path : {"/", "/studio/{file}"}) {
    routes.push_back({.method = "GET",
                      .path = path,
                      .name = "studio",
                      .help = {},
                      .is_open = true,
                      .is_listed = false,
                      .handler = page});
  }
  return routes;
}

}  // namespace heartmula

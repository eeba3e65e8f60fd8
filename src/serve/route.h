// What the server answers to: one entry of a table for each, from which come the dispatch, the checks of parameters,
// and the description for programs (openapi.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace heartmula {

class MappedFile;

/// A request that is no good, or cannot be served now; the message is what the client reads.
class HttpError : public std::runtime_error {
 public:
  HttpError(int status, const std::string& message, std::optional<int> retry_after_s = std::nullopt)
      : std::runtime_error(message), status_(status), retry_after_s_(retry_after_s) {}
  int status() const { return status_; }
  const std::optional<int>& retry_after_s() const { return retry_after_s_; }

 private:
  int status_;
  std::optional<int> retry_after_s_;
};

/// What a client asks.
struct Call {
  std::string method;
  std::map<std::string, std::string> path = {};   // what stands at {id} in the route's path
  std::map<std::string, std::string> query = {};  // as its parameters say; defaults are not filled in
  std::string body = {};
  std::string body_type = {};                                    // its Content-Type
  std::map<std::string, std::string, std::less<>> headers = {};  // names in lower case
  std::string owner = {};                                        // the name of its key; empty if none is needed
  std::string remote = {};                                       // its address, for the log

  const std::string& id() const { return path.at("id"); }
  /// The parameter, or `fallback` where it was not given.
  std::string parameter(const std::string& name, const std::string& fallback = {}) const;
  std::string header(std::string_view name) const;
};

/// Where a stream goes. False once nobody reads it, or the server stops.
using StreamSink = std::function<bool(std::string_view bytes)>;

struct Answer {
  int status = 200;
  std::string type = "application/json";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
  /// Instead of the body, and by parts where the client asks for one.
  std::shared_ptr<const MappedFile> file = {};
  /// Instead of the body: called once, on the connection's thread.
  std::function<void(const StreamSink&)> stream = {};

  static Answer json(const nlohmann::json& value, int status = 200);
  static Answer none(int status = 204);
};

struct Parameter {
  std::string name;
  nlohmann::json schema;  // of one value: type string, integer, number or boolean, with enum, pattern, minimum, maximum
  std::string help;
  bool required = false;
};

/// One of a route's answers, for its description.
struct ResponseForm {
  int status = 200;
  std::string help;
  std::string type = "application/json";
  nlohmann::json schema = nullptr;  // of JSON
};

struct Route {
  std::string method;
  std::string path;  // "/v1/songs/{id}/audio"
  std::string name;
  std::string help;
  std::vector<Parameter> query = {};
  nlohmann::json body = nullptr;  // its schema, if it takes one
  std::vector<ResponseForm> responses = {};
  bool is_open = false;            // to clients without a key
  bool has_error_objects = false;  // with a message and a type, as OpenAI's clients read them
  bool is_listed = true;           // in the description: not the page, nor what stands in for other servers
  std::string body_type = "application/json";
  std::function<Answer(const Call&)> handler = {};
};

/// Throws HttpError(400) that names the parameter if a value of `query` is not what its schema says, or one that is
/// required is missing.
void check_query(const Route& route, const std::map<std::string, std::string>& query);

/// The {parts} of the route's path, or nothing if `path` is another. A part is 1 to 200 bytes without a slash.
std::optional<std::map<std::string, std::string>> match_path(std::string_view pattern, std::string_view path);

}  // namespace heartmula

#include "serve/http_server.h"

#include <arpa/inet.h>
#include <httplib.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "serve/connection_threads.h"
#include "serve/socket_stream.h"

namespace heartmula {
namespace {

constexpr size_t kLongestPath = 1024;
constexpr size_t kMostHeaders = 100;
constexpr int kBacklog = 512;  // connections that the system holds ready
constexpr size_t kBytesPerPiece = size_t{64} << 10;
constexpr const char* kContentPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

class Threads final : public httplib::TaskQueue {
 public:
  explicit Threads(size_t most) : threads_(most) {}
  void enqueue(std::function<void()> work) override { threads_.run(std::move(work)); }
  void shutdown() override { threads_.join(); }

 private:
  ConnectionThreads threads_;
};

class Library final : public httplib::Server {
 public:
  /// The library was compiled for five.
  void widen_backlog() { ::listen(svr_sock_, kBacklog); }

 private:
  // One request for each connection: the connection has a thread, which must not wait for requests that may never come,
  // and what a client sends behind a request must not be taken for the next one.
  bool process_and_close_socket(socket_t socket) override {
    SocketStream stream(socket, {});
    bool is_closed = false;
    const bool is_answered = process_request(stream, true, is_closed, nullptr);
    ::shutdown(socket, SHUT_RDWR);
    ::close(socket);
    return is_answered;
  }
};

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

std::string without_port(const std::string& host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.rfind(':'));
}

// "http://localhost:8080" without its scheme.
std::string host_of_origin(const std::string& origin) {
  const size_t scheme = origin.find("://");
  return scheme == std::string::npos ? std::string() : lower(origin.substr(scheme + 3));
}

Call call_of(const httplib::Request& request) {
  Call call = {.method = request.method == "HEAD" ? "GET" : request.method};
  for (const auto& [name, value] : request.params) call.query.emplace(name, value);
  for (const auto& [name, value] : request.headers) call.headers.emplace(lower(name), value);
  call.body = request.body;
  call.body_type = lower(request.get_header_value("Content-Type"));
  call.body_type.resize(std::min(call.body_type.find(';'), call.body_type.size()));
  while (call.body_type.ends_with(' ')) call.body_type.pop_back();
  call.remote = request.remote_addr;
  return call;
}

std::string header_of(const Answer& answer, std::string_view name) {
  for (const auto& [known, value] : answer.headers) {
    if (known == name) return value;
  }
  return {};
}

// The status of what is not looked at any further, or 0.
int refusal_of(const httplib::Request& request) {
  if (request.path.size() > kLongestPath) return 414;
  if (request.headers.size() > kMostHeaders) return 431;
  const std::string coding = request.get_header_value("Content-Encoding");
  if ((!coding.empty() && coding != "identity") || request.is_multipart_form_data()) return 415;
  return 0;
}

nlohmann::json error_object(const HttpError& error) {
  const int status = error.status();
  const char* type = status == 401   ? "authentication_error"
                     : status == 429 ? "rate_limit_error"
                     : status >= 500 ? "server_error"
                                     : "invalid_request_error";
  return {{"message", error.what()}, {"type", type}, {"param", nullptr}, {"code", nullptr}};
}

Answer error_answer(const HttpError& error, const Route* route = nullptr) {
  const bool is_object = route != nullptr && route->has_error_objects;
  const nlohmann::json told = is_object ? error_object(error) : nlohmann::json(error.what());
  Answer answer = Answer::json({{"error", told}}, error.status());
  if (error.retry_after_s()) answer.headers.emplace_back("Retry-After", std::to_string(*error.retry_after_s()));
  return answer;
}

}  // namespace

std::optional<ByteRange> parse_range(std::string_view header, size_t size) {
  if (!header.starts_with("bytes=")) return std::nullopt;
  header.remove_prefix(6);
  const size_t dash = header.find('-');
  if (dash == std::string_view::npos || header.find(',') != std::string_view::npos) return std::nullopt;
  const auto number = [](std::string_view text) -> std::optional<size_t> {
    size_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
  };
  const std::optional<size_t> first = number(header.substr(0, dash));
  const std::optional<size_t> last = number(header.substr(dash + 1));
  if ((!first && !last) || (first && !last && dash + 1 != header.size()) || (!first && dash != 0)) return std::nullopt;
  if (!first) {
    if (*last == 0) throw HttpError(416, "the range is empty");
    const size_t count = std::min(*last, size);
    return ByteRange{size - count, count};
  }
  if (last && *last < *first) return std::nullopt;
  if (*first >= size) throw HttpError(416, "the range begins behind the end");
  return ByteRange{*first, std::min(last.value_or(size - 1), size - 1) - *first + 1};
}

bool is_loopback(std::string host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  in_addr four = {};
  if (::inet_pton(AF_INET, host.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
  in6_addr six = {};
  if (::inet_pton(AF_INET6, host.c_str(), &six) == 1) return IN6_IS_ADDR_LOOPBACK(&six);
  return host == "localhost" || host.ends_with(".localhost");
}

struct HttpServer::State {
  HttpSettings settings;
  std::vector<Route> routes;
  HttpHooks hooks;
  Library library;
  std::atomic<bool> stops{false};
  std::thread listening = {};

  std::pair<const Route*, std::map<std::string, std::string>> find(const std::string& method, const std::string& path) {
    std::string allowed;
    for (const Route& route : routes) {
      auto parts = match_path(route.path, path);
      if (!parts) continue;
      if (route.method == method) return {&route, std::move(*parts)};
      if (allowed.find(route.method) == std::string::npos) allowed += (allowed.empty() ? "" : ", ") + route.method;
    }
    return {nullptr, {{"allowed", allowed}}};
  }

  // Other people's pages must not call from their visitors' browsers, under whatever name they reach this machine.
  void check_origin(const Call& call) const {
    const std::string host = lower(call.header("host"));
    const bool is_local = is_loopback(settings.host);
    if (is_local && !settings.any_host && !is_loopback(without_port(host))) {
      throw HttpError(403, "this server answers to localhost only");
    }
    const std::string origin = call.header("origin");
    if (origin.empty() || origin == settings.cors_origin || host_of_origin(origin) == host) return;
    throw HttpError(403, "this server answers to pages of its own only (see --cors_origin)");
  }

  void check_body(const Route& route, const Call& call) const {
    if (route.body.is_null()) return;
    if (call.body_type != route.body_type) {
      throw HttpError(415, "the body must be " + route.body_type + ", and Content-Type say so");
    }
  }

  Answer preflight(const Call& call) const {
    Answer answer = Answer::none(204);
    if (!settings.cors_origin.empty() && call.header("origin") == settings.cors_origin) {
      answer.headers = {{"Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE"},
                        {"Access-Control-Allow-Headers", "Authorization, Content-Type, Range"},
                        {"Access-Control-Max-Age", "600"}};
    }
    return answer;
  }

  Answer dispatch(const std::string& path, Call& call) {
    const Route* route = nullptr;
    Answer answer;
    try {
      check_origin(call);
      if (call.method == "OPTIONS") return preflight(call);
      auto [found, parts] = find(call.method, path);
      route = found;
      if (route == nullptr) {
        const std::string allowed = parts["allowed"];
        answer = error_answer(allowed.empty() ? HttpError(404, "there is nothing here")
                                              : HttpError(405, "this can only be asked with " + allowed));
        if (!allowed.empty()) answer.headers.emplace_back("Allow", allowed);
      } else {
        call.path = std::move(parts);
        hooks.admit(*route, call);
        check_query(*route, call.query);
        check_body(*route, call);
        answer = route->handler(call);
      }
    } catch (const HttpError& error) {
      answer = error_answer(error, route);
    } catch (const Error& error) {
      const bool is_users = error.kind() == ErrorKind::kUser;
      if (!is_users) spdlog::error(error.what());
      answer = error_answer(HttpError(is_users ? 400 : 500, error.what()), route);
    } catch (const std::exception& error) {
      spdlog::error("{} {}: {}", call.method, path, error.what());
      answer = error_answer(HttpError(500, "this is a fault of the server; its log says more"), route);
    }
    hooks.answered(route, call, answer.status);
    return answer;
  }

  // RFC 9110: the client has this very file already.
  static bool is_known(const Call& call, const Answer& answer) {
    const std::string tag = header_of(answer, "ETag");
    const std::string known = call.header("if-none-match");
    return answer.file && !tag.empty() && (known == "*" || known.find(tag) != std::string::npos);
  }

  void send_file(const Call& call, const Answer& answer, httplib::Response& response) const {
    const std::span<const std::byte> bytes = answer.file->bytes();
    ByteRange range = {0, bytes.size()};
    const std::string if_range = call.header("if-range");
    const bool is_same = if_range.empty() || if_range == header_of(answer, "ETag");
    if (const std::string asked = call.header("range"); !asked.empty() && is_same) {
      if (const auto part = parse_range(asked, bytes.size())) {
        range = *part;
        response.status = 206;
        response.set_header("Content-Range",
                            fmt::format("bytes {}-{}/{}", range.begin, range.begin + range.size - 1, bytes.size()));
      }
    }
    response.set_header("Accept-Ranges", "bytes");
    response.set_content_provider(
        range.size, answer.type, [file = answer.file, range](size_t offset, size_t length, httplib::DataSink& sink) {
          const auto part = file->bytes().subspan(range.begin + offset, std::min(length, kBytesPerPiece));
          return sink.write(reinterpret_cast<const char*>(part.data()), part.size());
        });
  }

  void send_stream(const Answer& answer, httplib::Response& response) {
    response.set_chunked_content_provider(answer.type, [this, stream = answer.stream](size_t, httplib::DataSink& sink) {
      try {
        stream([&](std::string_view bytes) {
          if (stops) return false;
          return bytes.empty() ? sink.is_writable() : sink.write(bytes.data(), bytes.size());
        });
      } catch (const std::exception& error) {  // too late for another answer
        spdlog::error(error.what());
        return false;
      }
      sink.done();
      return true;
    });
  }

  void send(const Call& call, const Answer& answer, httplib::Response& response) {
    response.status = answer.status;
    if (!settings.cors_origin.empty()) {
      response.set_header("Access-Control-Allow-Origin", settings.cors_origin);
      response.set_header("Vary", "Origin");
    }
    bool has_cache_rule = false;
    for (const auto& [name, value] : answer.headers) {
      response.set_header(name, value);
      has_cache_rule = has_cache_rule || name == "Cache-Control";
    }
    if (!has_cache_rule) response.set_header("Cache-Control", "no-store");
    if (is_known(call, answer)) {
      response.status = 304;
      return;
    }
    if (answer.file) return send_file(call, answer, response);
    if (answer.stream) return send_stream(answer, response);
    if (!answer.type.empty()) response.set_content(answer.body, answer.type);
  }

  void handle(const httplib::Request& request, httplib::Response& response, const httplib::ContentReader* body) {
    Call call = call_of(request);
    if (body != nullptr) {
      bool is_too_large = false;
      const bool is_read = (*body)([&](const char* data, size_t size) {
        is_too_large = call.body.size() + size > settings.body_bytes;
        if (!is_too_large) call.body.append(data, size);
        return !is_too_large;
      });
      if (is_too_large || response.status == 413) {  // the library saw that it would be
        return send(call, error_answer(HttpError(413, "the body is too large")), response);
      }
      if (!is_read) return send(call, error_answer(HttpError(400, "the body ends before its end")), response);
    }
    // The library would cut parts out by itself, also such as are not there.
    const_cast<httplib::Request&>(request).ranges.clear();
    const Answer answer = dispatch(request.path, call);
    try {
      send(call, answer, response);
    } catch (const HttpError& error) {  // a range that is not there
      Answer refusal = error_answer(error);
      refusal.headers.emplace_back("Content-Range", fmt::format("bytes */{}", answer.file->bytes().size()));
      send(call, refusal, response);
    }
  }
};

HttpServer::HttpServer(HttpSettings settings, std::vector<Route> routes, HttpHooks hooks)
    : state_(std::make_unique<State>()) {
  state_->settings = std::move(settings);
  state_->routes = std::move(routes);
  state_->hooks = std::move(hooks);
  Library& library = state_->library;
  library.new_task_queue = [most = state_->settings.connections]() -> httplib::TaskQueue* { return new Threads(most); };
  library.set_payload_max_length(state_->settings.body_bytes);
  library.set_tcp_nodelay(true);
  library.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                               {"Referrer-Policy", "no-referrer"},
                               {"Content-Security-Policy", kContentPolicy},
                               {"X-Frame-Options", "DENY"}});
  library.set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
    response.status = refusal_of(request);
    if (response.status != 0) return httplib::Server::HandlerResponse::Handled;
    response.status = -1;  // the library's "not known yet"
    const bool has_body = request.has_header("Content-Length") || request.has_header("Transfer-Encoding");
    // It would wait for the connection's end, where HTTP says that there is no body.
    if (!has_body) const_cast<httplib::Request&>(request).set_header("Content-Length", "0");
    return httplib::Server::HandlerResponse::Unhandled;
  });
  const httplib::Server::Handler bare = [this](const httplib::Request& request, httplib::Response& response) {
    state_->handle(request, response, nullptr);
  };
  const httplib::Server::HandlerWithContentReader with_body =
      [this](const httplib::Request& request, httplib::Response& response, const httplib::ContentReader& body) {
        state_->handle(request, response, &body);
      };
  library.Get(".*", bare);
  library.Options(".*", bare);
  library.Post(".*", with_body);
  library.Put(".*", with_body);
  library.Patch(".*", with_body);
  library.Delete(".*", with_body);
  // What the library refuses by itself.
  using Handled = httplib::Server::HandlerWithResponse;
  library.set_error_handler(Handled([](const httplib::Request&, httplib::Response& response) {
    if (!response.body.empty() || response.content_length_ > 0) return httplib::Server::HandlerResponse::Unhandled;
    const int status = response.status;
    const char* text = status == 413   ? "the body is too large"
                       : status == 414 ? "the address is too long"
                       : status == 415 ? "the body must be JSON as it is, not compressed and not a form"
                       : status == 431 ? "there are too many headers"
                       : status == 416 ? "the range cannot be understood"
                                       : "the request cannot be understood";
    response.set_content(nlohmann::json({{"error", text}}).dump() + "\n", "application/json");
    return httplib::Server::HandlerResponse::Handled;
  }));
}

HttpServer::~HttpServer() {
  stop();
}

int HttpServer::bind() {
  const HttpSettings& settings = state_->settings;
  int port = settings.port;
  if (port == 0) {
    port = state_->library.bind_to_any_port(settings.host);
  } else if (!state_->library.bind_to_port(settings.host, port)) {
    port = -1;
  }
  if (port < 0) {
    throw user_error("--port {}: cannot listen at {}: {}; is another server running there?", settings.port,
                     settings.host, std::generic_category().message(errno));
  }
  state_->library.widen_backlog();
  return port;
}

void HttpServer::start() {
  state_->listening = std::thread([this] {
    state_->library.listen_after_bind();
    state_->stops = true;
  });
  // The library takes no notice of a stop before it listens.
  while (!state_->library.is_running() && !state_->stops) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

void HttpServer::stop() {
  state_->stops = true;
  state_->library.stop();
  if (state_->listening.joinable()) state_->listening.join();
}

Answer HttpServer::answer(Call call) const {
  const std::string path = call.path["path"];
  call.path.clear();
  return state_->dispatch(path, call);
}

}  // namespace heartmula

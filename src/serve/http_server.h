// HTTP/1.1 around a table of routes. What comes from the network is checked here: sizes, methods, types, origins.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/route.h"

namespace heartmula {

struct HttpSettings {
  std::string host = "127.0.0.1";
  int port = 8080;            // 0 for any that is free
  size_t connections = 1024;  // at once; others wait
  size_t body_bytes = size_t{1} << 20;
  std::string cors_origin = {};  // of pages elsewhere that may call, or empty
  bool any_host = false;         // what the client calls this machine is not looked at
};

struct HttpHooks {
  /// Finds out whose call it is (Call::owner), or throws HttpError.
  std::function<void(const Route& route, Call& call)> admit;
  /// After each answer; `route` is null where there is none for the path.
  std::function<void(const Route* route, const Call& call, int status)> answered;
};

/// Whether a host, as an address or a name, is this machine itself: 127.x.x.x, ::1, localhost, NAME.localhost.
bool is_loopback(std::string host);

struct ByteRange {
  size_t begin = 0;
  size_t size = 0;
};

/// What the header Range ("bytes=0-99", "bytes=100-", "bytes=-100") asks for of `size` bytes; nothing for anything
/// else, which may be ignored (RFC 9110, 14.2). Throws HttpError(416) if nothing of it is there.
std::optional<ByteRange> parse_range(std::string_view header, size_t size);

class HttpServer {
 public:
  HttpServer(HttpSettings settings, std::vector<Route> routes, HttpHooks hooks);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Gives the port. Throws Error(kUser) if it cannot be had.
  int bind();
  /// Answers from here on, in threads of its own.
  void start();
  /// No new connections; streams end. Returns when the answers that were begun are finished.
  void stop();

  /// A call as serve() answers it, without a network: for tests.
  Answer answer(Call call) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heartmula

// heartmula serve: the engine, its database and HTTP around them, as one thing that runs until it is told to stop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "serve/http_server.h"
#include "song/request.h"

namespace heartmula {

enum class ServerRole : uint8_t {
  kAll,     // answers and makes songs
  kApi,     // only answers
  kWorker,  // makes songs, and answers for health and metrics alone
};

inline constexpr Names<ServerRole, 3> kServerRoles = {
    {{{ServerRole::kAll, "all"}, {ServerRole::kApi, "api"}, {ServerRole::kWorker, "worker"}}}};

struct ServerSettings {
  Request defaults;  // checkpoint and machine, and what orders do not say
  HttpSettings http;
  std::string data_dir = "heartmula-data";
  std::string database = {};   // "postgresql://...", or empty for SQLite in data_dir
  std::string audio_dir = {};  // data_dir/audio if empty
  bool audio_in_database = false;
  ServerRole role = ServerRole::kAll;
  std::string api_key_file = {};
  bool no_auth = false;  // listens elsewhere than on loopback without keys
  bool log_requests = false;
  std::optional<int64_t> songs_at_once = {};  // as many as the memory holds, if not given
  int64_t lease_ms = 20'000;                  // without a word from a worker, its songs are another's
  int64_t queue = 1000;
  std::optional<int64_t> key_queue = {};             // songs of a key
  std::optional<int64_t> key_seconds_per_hour = {};  // of audio
};

/// Runs until `stop` is raised; songs in work are kept then, and go on after the next start. `listening` hears of the
/// address ("http://127.0.0.1:8080") once there is somebody to answer. Throws Error(kUser) for settings that cannot be,
/// and Error(kFailure) if models cannot be loaded, or the engine breaks.
void run_server(const ServerSettings& settings, const CancelToken& stop,
                const std::function<void(const std::string& address)>& listening);

}  // namespace heartmula

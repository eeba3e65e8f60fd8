// heartmula serve: songs over HTTP, and the studio in a browser.
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/setting_flags.h"
#include "serve/server.h"

namespace heartmula {
namespace {

constexpr int64_t kMostConnections = 10'000;
constexpr int64_t kLargestBody = int64_t{1} << 30;

/// What the command line says; words are read when all are known.
struct ServeFlags {
  SettingFlags song;
  std::string host = "127.0.0.1";
  int64_t port = 8080;
  std::string data_dir = "heartmula-data";
  std::string database = {};
  std::string audio_dir = {};
  bool audio_in_database = false;
  std::string role = "all";
  std::string api_key_file = {};
  bool no_auth = false;
  bool log_requests = false;
  bool any_host = false;
  std::string cors_origin = {};
  int64_t connections = 1024;
  int64_t body_bytes = int64_t{1} << 20;
  int64_t lease_ms = 20'000;
  int64_t queue = 1000;
  int64_t songs_at_once = 0;
  int64_t key_queue = 0;
  int64_t key_seconds_per_hour = 0;
};

std::optional<int64_t> if_positive(int64_t number) {
  return number > 0 ? std::optional(number) : std::nullopt;
}

ServerSettings settings_of(const ServeFlags& flags) {
  ServerSettings settings = {.defaults = {},
                             .http = {},
                             .data_dir = flags.data_dir,
                             .database = flags.database,
                             .audio_dir = flags.audio_dir,
                             .audio_in_database = flags.audio_in_database,
                             .role = kServerRoles.parse("--role", flags.role),
                             .api_key_file = flags.api_key_file,
                             .no_auth = flags.no_auth,
                             .log_requests = flags.log_requests,
                             .songs_at_once = if_positive(flags.songs_at_once),
                             .lease_ms = flags.lease_ms,
                             .queue = flags.queue,
                             .key_queue = if_positive(flags.key_queue),
                             .key_seconds_per_hour = if_positive(flags.key_seconds_per_hour)};
  settings.http = {.host = flags.host,
                   .port = static_cast<int>(flags.port),
                   .connections = static_cast<size_t>(flags.connections),
                   .body_bytes = static_cast<size_t>(flags.body_bytes),
                   .cors_origin = flags.cors_origin,
                   .any_host = flags.any_host};
  // Who listens while a song is made waits for a quarter of the time that the reference's windows take.
  settings.defaults.codec.windows = WindowScheme::kEarly;
  flags.song.apply(settings.defaults);
  return settings;
}

}  // namespace

void add_serve(CLI::App& app, Run& run) {
  Command command(app, "serve", "Make songs for others: an HTTP server, and a studio in the browser");
  auto flags = std::make_shared<ServeFlags>();
  command.option("--host", flags->host, "Address to listen at; another than this machine's own needs keys")
      .show_default();
  command.option("--port", flags->port, "Port; 0 for any that is free").within(0, 65535).show_default();
  command.option("--data_dir", flags->data_dir, "Songs and their database lie here").show_default();
  command.option("--database", flags->database,
                 "postgresql://...: a database that several servers share, instead of one in --data_dir");
  command.option("--audio_dir", flags->audio_dir, "Songs lie here: a folder that those servers share, too");
  command.flag("--audio_in_database", flags->audio_in_database, "Songs lie in the database instead");
  command.option("--role", flags->role, "all, api (makes no songs) or worker (does nothing else)").show_default();
  command.option("--api_key_file", flags->api_key_file, "A line for each key: NAME KEY; who has none is refused");
  command.flag("--no_auth", flags->no_auth, "Everybody who reaches --host may make songs");
  command.flag("--any_host", flags->any_host, "Answer to other names than localhost, as behind a proxy");
  command.option("--cors_origin", flags->cors_origin, "A page elsewhere that may call: https://music.example");
  command
      .option("--songs_at_once", flags->songs_at_once, "Songs made beside each other; by default as the memory holds")
      .within(1, 256);
  command.option("--lease_ms", flags->lease_ms, "A worker that is silent for so long has died: another takes its songs")
      .within(1000, 3'600'000)
      .show_default();
  command.option("--queue", flags->queue, "Songs that may wait").within(1, 1'000'000).show_default();
  command.option("--key_queue", flags->key_queue, "Songs that may wait of one key").within(1, 1'000'000);
  command.option("--key_seconds_per_hour", flags->key_seconds_per_hour, "Audio that a key may have made in an hour")
      .within(1, 100'000'000);
  command.option("--connections", flags->connections, "Connections at once").within(4, kMostConnections).show_default();
  command.option("--body_bytes", flags->body_bytes, "Largest request").within(1024, kLargestBody).show_default();
  command.flag("--log_requests", flags->log_requests, "Log who asks for what, with lyrics and tags");
  flags->song.add_to(command.app(), kServe);
  command.runs(run, [flags] {
    watch_signals();
    spdlog::set_level(std::min(spdlog::get_level(), spdlog::level::info));
    run_server(settings_of(*flags), interrupt_token(),
               [](const std::string& address) { print_out("listening on " + address + "\n"); });
    return 0;
  });
}

}  // namespace heartmula

#include "serve/server.h"

#include <fmt/format.h>
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <sstream>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/output_lock.h"
#include "serve/postgres.h"
#include "serve/routes.h"
#include "serve/sqlite.h"
#include "song/songs_plan.h"
#include "text/lint.h"
#include "text/vocabulary.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

constexpr std::chrono::milliseconds kStopPause{100};
// The codec begins anew after each: a machine that is often switched off must not lose the song.
constexpr int64_t kFruitlessAttempts = 20;

void check(const ServerSettings& settings) {
  if (!is_loopback(settings.http.host) && settings.api_key_file.empty() && !settings.no_auth) {
    throw user_error(
        "--host {}: others could use this server without a key; give --api_key_file FILE, or --no_auth if everybody "
        "may",
        settings.http.host);
  }
  if (settings.role != ServerRole::kAll && settings.database.empty()) {
    throw user_error("--role {} needs --database postgresql://...: a database that processes share",
                     kServerRoles.name(settings.role));
  }
  if (settings.audio_in_database && settings.database.empty()) {
    throw user_error("--audio_in_database needs --database postgresql://...");
  }
  check_settings(settings.defaults);
}

void make_folder(const fs::path& folder, const char* flag) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw user_error("{} {}: {}", flag, folder.string(), error.message());
  fs::permissions(folder, fs::perms::group_all | fs::perms::others_all, fs::perm_options::remove, error);
}

std::unique_ptr<DatabaseSource> make_database(const ServerSettings& settings) {
  if (!settings.database.empty()) return postgres_source(settings.database);
  return sqlite_source(fs::path(settings.data_dir) / "jobs.sqlite", "--data_dir");
}

// A name that no other has, new at each start.
std::string worker_name() {
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  return fmt::format("{}:{}:{:x}", host, ::getpid(), random_seed());
}

/// Everything of a server, in the order in which it must be made and ended.
class Server {
 public:
  explicit Server(const ServerSettings& settings)
      : settings_(settings),
        access_(settings.api_key_file.empty() ? Access() : Access(fs::path(settings.api_key_file))),
        models_({.checkpoint = settings.defaults.checkpoint, .machine = settings.defaults.machine},
                CheckpointParts::kAll, &cancel_),
        plan_(plan()),
        store_(open_database(settings), kFruitlessAttempts),
        shelf_(settings.audio_dir.empty() ? fs::path(settings.data_dir) / "audio" : fs::path(settings.audio_dir),
               store_, settings.audio_in_database),
        hub_(store_, [this](const Job& job) { return song_json(job, songs_->pace(), SongDetail::kNews).dump(); }),
        house_{models_, store_, shelf_, metrics_, plan_.memory} {
    models_.lm_identity();  // later only read, by any thread
    models_.codec_identity();
    vocabulary_ = find_vocabulary(models_.paths().tokenizer.parent_path());
    songs_.emplace(models_, store_, shelf_, hub_, metrics_, settings.defaults, limits());
    facts_ = {.status = [this] { return status(); },
              .metrics = [this] { return metrics_.text(store_.counts()); },
              .models = [this] { return models_json(); },
              .limits = [this] { return limits_json(); },
              .lint = [this](const nlohmann::json& texts) { return lint_json(texts); },
              .access = &access_};
    http_.emplace(settings.http, routes(), hooks());
  }

  ~Server() { store_.set_listener({}); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void run(const CancelToken& stop, const std::function<void(const std::string&)>& listening) {
    const int port = http_->bind();
    if (settings_.role != ServerRole::kApi) {
      if (settings_.database.empty()) shelf_.discard_all();
      engine_ = std::make_unique<Engine>(house_,
                                         EngineSettings{.songs_at_once = plan_.memory.songs,
                                                        .pages = plan_.memory.pages,
                                                        .positions = positions_,
                                                        .worker = worker_name(),
                                                        .lease_ms = settings_.lease_ms},
                                         cancel_, [this] { broken_ = true; });
    }
    store_.set_listener([this](const std::string& id) {
      hub_.notice(id);
      if (engine_) engine_->notice(id);
    });
    http_->start();
    const std::string& host = settings_.http.host;
    listening(fmt::format("http://{}:{}", host.find(':') == std::string::npos ? host : "[" + host + "]", port));
    while (!stop.cancelled() && !broken_) std::this_thread::sleep_for(kStopPause);
    const std::string error = engine_ ? engine_->status().error : std::string();
    http_->stop();
    store_.set_listener({});
    engine_.reset();
    if (broken_) throw failure("{}", error);
  }

 private:
  static std::unique_ptr<DatabaseSource> open_database(const ServerSettings& settings) {
    make_folder(settings.data_dir, "--data_dir");
    return make_database(settings);
  }

  // Of as many songs as shall be made at once, each as long as one may be.
  SongsPlan plan() {
    Request longest = settings_.defaults;
    const int64_t most = models_.lm_config().backbone.max_seq_len * kFrameMs;  // but for those with "long"
    max_audio_length_ms_ = longest.song.max_audio_length_ms.value_or(std::min(kDefaultAudioLengthMs, most));
    longest.song.max_audio_length_ms = max_audio_length_ms_;
    positions_ =
        std::min(models_.lm_config().backbone.max_seq_len, longest.song.frame_loop(0).max_frames() + kMostPrompt);
    const std::vector<SongSize> sizes(static_cast<size_t>(settings_.songs_at_once.value_or(kSongsAtOnce)),
                                      longest.size(positions_));
    SongsPlan plan = plan_songs(models_, sizes, settings_.songs_at_once);
    if (settings_.role == ServerRole::kApi) return plan;
    check_plan(models_, plan, sizes);
    std::istringstream lines(describe(plan.memory, plan.available));
    for (std::string line; std::getline(lines, line);) spdlog::info("{}", line);
    return plan;
  }

  SongLimits limits() const {
    SongLimits limits = {
        .jobs = {.queued = settings_.queue, .queued_of_owner = settings_.key_queue, .seconds_per_hour = {}},
        .max_audio_length_ms = max_audio_length_ms_,
        .songs_at_once = plan_.memory.songs};
    if (settings_.key_seconds_per_hour) {
      limits.jobs.seconds_per_hour = static_cast<double>(*settings_.key_seconds_per_hour);
    }
    return limits;
  }

  EngineStatus status() const {
    if (engine_) return engine_->status();
    const bool is_api = settings_.role == ServerRole::kApi;
    return {.state = is_api ? EngineStatus::State::kReady : EngineStatus::State::kLoading, .progress = 0, .error = {}};
  }

  nlohmann::json models_json() {
    const ModelIdentity& lm = models_.lm_identity();
    const ModelIdentity& codec = models_.codec_identity();
    return {{"object", "list"},
            {"data",
             {{{"id", escaped(lm.name)},
               {"object", "model"},
               {"created", 0},
               {"owned_by", "heartmula"},
               {"fingerprint", lm.fingerprint},
               {"codec", {{"id", escaped(codec.name)}, {"fingerprint", codec.fingerprint}}}}}}};
  }

  nlohmann::json limits_json() {
    const std::map<JobState, int64_t> counts = store_.counts();
    const auto queued = counts.find(JobState::kQueued);
    const int64_t in_queue = queued == counts.end() ? 0 : queued->second;
    const auto number_or_null = [](const std::optional<int64_t>& number) {
      return number ? nlohmann::json(*number) : nlohmann::json();
    };
    nlohmann::json json = {{"max_audio_length_ms", max_audio_length_ms_},
                           {"songs_per_request", kMostVariations},
                           {"queue", settings_.queue},
                           {"queue_free", std::max<int64_t>(settings_.queue - in_queue, 0)},
                           {"songs_at_once", plan_.memory.songs},
                           {"body_bytes", settings_.http.body_bytes},
                           {"seconds_per_hour", number_or_null(settings_.key_seconds_per_hour)},
                           {"queue_per_key", number_or_null(settings_.key_queue)},
                           {"defaults", song_settings(settings_.defaults)}};
    json["defaults"]["max_audio_length_ms"] = std::min(kDefaultAudioLengthMs, max_audio_length_ms_);
    json.update(vocabulary_json());
    return json;
  }

  nlohmann::json vocabulary_json() const;
  nlohmann::json lint_json(const nlohmann::json& texts) const;

  std::vector<Route> routes() {
    std::vector<Route> routes = native_routes(*songs_, facts_);
    if (settings_.role == ServerRole::kWorker) {
      std::erase_if(routes, [](const Route& route) {
        return route.path != "/health" && route.path != "/ready" && route.path != "/metrics";
      });
      return routes;
    }
    for (const auto& more : {openai_routes(*songs_), studio_backend_routes(*songs_, facts_), page_routes()}) {
      routes.insert(routes.end(), more.begin(), more.end());
    }
    routes.push_back(openapi_route(routes));
    return routes;
  }

  HttpHooks hooks() {
    return {.admit =
                [this](const Route& route, Call& call) {
                  if (route.is_open || !access_.needs_key()) return;
                  const std::optional<std::string> owner = access_.owner_of(call);
                  if (!owner) throw HttpError(401, "a key is needed: Authorization: Bearer KEY");
                  call.owner = *owner;
                },
            .answered =
                [this](const Route* route, const Call& call, int status) {
                  metrics_.count_request(call.method, route == nullptr ? "none" : route->path, status);
                  if (!settings_.log_requests) return;
                  spdlog::info("{} {} {} {} {}", call.remote, call.owner.empty() ? "-" : call.owner, call.method,
                               route == nullptr ? "-" : route->path, status);
                  const bool is_secret = route == nullptr || route->is_open;  // a key that is shown
                  if (!call.body.empty() && !is_secret) spdlog::info("{}", call.body);
                }};
  }

  static constexpr int64_t kMostPrompt = 1024;  // positions of lyrics and tags that there is room for, at least

  const ServerSettings& settings_;
  CancelToken cancel_;
  Access access_;
  Models models_;
  Vocabulary vocabulary_;
  int64_t max_audio_length_ms_ = 0;
  int64_t positions_ = 0;
  SongsPlan plan_;
  JobStore store_;
  AudioShelf shelf_;
  Metrics metrics_;
  EventHub hub_;
  SongHouse house_;
  std::optional<Songs> songs_;
  ServerFacts facts_;
  std::optional<HttpServer> http_;
  std::unique_ptr<Engine> engine_;
  std::atomic<bool> broken_{false};
};

nlohmann::json Server::vocabulary_json() const {
  return {{"sections", vocabulary_.sections}, {"tags", vocabulary_.tags}, {"tags_known", vocabulary_.tags_known}};
}

nlohmann::json Server::lint_json(const nlohmann::json& texts) const {
  const std::string lyrics = texts.value("lyrics", std::string());
  const std::string tags = texts.value("tags", std::string());
  LintInput input;
  if (texts.contains("lyrics")) input.lyrics = lyrics;
  if (texts.contains("tags")) input.tags = tags;
  if (texts.contains("max_audio_length_ms")) input.max_audio_length_ms = texts["max_audio_length_ms"];
  return to_json(lint(input, vocabulary_));
}

}  // namespace

void run_server(const ServerSettings& settings, const CancelToken& stop,
                const std::function<void(const std::string& address)>& listening) {
  check(settings);
#if defined(__GLIBC__)
  // Each of many threads would take memory from a place of its own, and keep it.
  ::mallopt(M_ARENA_MAX, 2);
#endif
  Server(settings).run(stop, listening);
}

}  // namespace heartmula

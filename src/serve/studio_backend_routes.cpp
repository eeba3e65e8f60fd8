// The routes of HeartMuLa-Studio's backend that its page needs, with its names and its habits.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "base/error.h"
#include "base/json_fields.h"
#include "serve/live_audio.h"
#include "serve/routes.h"

namespace heartmula {
namespace {

constexpr int64_t kHistory = 200;  // songs
constexpr int64_t kUsualLengthMs = 30'000;
constexpr std::chrono::seconds kCancelPatience{10};
constexpr const char* kCancelled = "Cancelled by user";

const char* studio_state(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "queued";
    case JobState::kRunning:
      return "processing";
    case JobState::kDone:
      return "completed";
    case JobState::kFailed:
    case JobState::kCancelled:
      break;
  }
  return "failed";
}

std::string iso_time(int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm utc = {};
  gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  return text;
}

nlohmann::json studio_job(const Job& job) {
  const Request request = parse_request(job.request, job.id).request;
  nlohmann::json json = {{"id", job.id},
                         {"status", studio_state(job.state)},
                         {"title", job.title},
                         {"prompt", job.title.empty() ? request.song.tags : job.title},
                         {"lyrics", request.song.lyrics},
                         {"tags", request.song.tags},
                         {"seed", request.song.seed.value_or(0)},
                         {"audio_path", nullptr},
                         {"duration_ms", request.song.max_audio_length_ms.value_or(0)},
                         {"created_at", iso_time(job.created_ms)},
                         {"error_msg", nullptr},
                         {"generation_time_seconds", nullptr}};
  if (job.state == JobState::kDone) json["audio_path"] = "/audio/" + job.id + ".mp3";
  if (job.state == JobState::kCancelled) json["error_msg"] = kCancelled;
  if (!job.error.empty()) json["error_msg"] = job.error;
  if (job.started_ms && job.ended_ms) {
    json["generation_time_seconds"] = 1e-3 * static_cast<double>(*job.ended_ms - *job.started_ms);
  }
  return json;
}

std::string text_or(const nlohmann::json& json, const char* field, const std::string& fallback) {
  return json.contains(field) && json[field].is_string() ? json[field].get<std::string>() : fallback;
}

// Its prompt is a description: the tags, where there are none, and what the song is called. Of a song that goes on from
// another one, the length is that of what is added: `past_ms` come before.
SongOrder studio_order(const nlohmann::json& json, int64_t past_ms, const Request& defaults) {
  for (const char* missing : {"ref_audio_id", "negative_tags"}) {
    if (!text_or(json, missing, {}).empty()) {
      throw HttpError(400, message("{} is not supported", missing));
    }
  }
  nlohmann::json order = {{"tags", text_or(json, "tags", text_or(json, "prompt", {}))},
                          {"lyrics", text_or(json, "lyrics", {})},
                          {"title", text_or(json, "title", text_or(json, "prompt", {}))},
                          {"max_audio_length_ms", json.value("duration_ms", nlohmann::json(kUsualLengthMs))}};
  nlohmann::json& length = order["max_audio_length_ms"];
  if (past_ms > 0 && length.is_number_integer()) length = length.get<int64_t>() + past_ms;
  for (const char* same : {"temperature", "cfg_scale", "topk", "seed"}) {
    if (json.contains(same) && !json[same].is_null()) order[same] = json[same];
  }
  if (const std::string parent = text_or(json, "parent_job_id", {}); !parent.empty())
    order["begin"] = {{"song", parent}};
  return song_order(order, defaults);
}

std::string event(const char* name, const nlohmann::json& data) {
  return fmt::format("event: {}\ndata: {}\n\n", name, data.dump());
}

// A song's change in that backend's words.
std::string studio_events(const Job& job) {
  std::string events;
  if (job.state == JobState::kQueued) {
    events += event("job_queued", {{"job_id", job.id}, {"position", job.place.value_or(0) + 1}, {"total", 0}});
  } else if (job.state == JobState::kRunning) {
    const int percent = static_cast<int>(100 * song_json(job, {}, SongDetail::kNews)["progress"].get<double>());
    events += event("job_progress", {{"job_id", job.id}, {"progress", percent}, {"msg", job.stage}});
  }
  nlohmann::json update = {{"job_id", job.id}, {"status", studio_state(job.state)}, {"title", job.title}};
  if (job.state == JobState::kDone) update["audio_path"] = "/audio/" + job.id + ".mp3";
  if (job.state == JobState::kCancelled) update["error"] = kCancelled;
  if (!job.error.empty()) update["error"] = job.error;
  return events + event("job_update", update);
}

Answer make_song(Songs& songs, const Call& call) {
  const nlohmann::json json = parse_body(call);
  int64_t past_ms = 0;
  if (const std::string parent = text_or(json, "parent_job_id", {}); !parent.empty()) {
    past_ms = songs.find(parent, call.owner).frames * kFrameMs;
  }
  const Job made = songs.accept(studio_order(json, past_ms, songs.defaults()), call.owner).front();
  return Answer::json({{"job_id", made.id}, {"status", "queued"}});
}

Answer rename_song(Songs& songs, const Call& call) {
  const nlohmann::json json = parse_body(call);
  if (!json.contains("title") || !json["title"].is_string()) throw HttpError(400, "title must be a string");
  return Answer::json(studio_job(songs.change(call.id(), call.owner, json["title"].get<std::string>(), std::nullopt)));
}

Answer like(Songs& songs, const Call& call, bool likes) {
  songs.change(call.id(), call.owner, std::nullopt, likes);
  return Answer::json({{"status", likes ? "liked" : "unliked"}, {"job_id", call.id()}});
}

// Of a song that is being made, too, when that has ended.
Answer delete_song(Songs& songs, const Call& call) {
  const Job job = songs.find(call.id(), call.owner);
  if (!is_over(job.state)) {
    songs.cancel(job.id, call.owner);
    const auto until = std::chrono::steady_clock::now() + kCancelPatience;
    songs.wait(job, [until](std::string_view) { return std::chrono::steady_clock::now() < until; });
  }
  songs.remove(job.id, call.owner);
  return Answer::json({{"status", "deleted"}, {"id", job.id}});
}

nlohmann::json liked_songs(Songs& songs, const Call& call) {
  JobFilter filter;
  filter.favourite = true;
  filter.limit = kHistory;
  nlohmann::json json = {{"songs", nlohmann::json::array()}, {"liked_ids", nlohmann::json::array()}};
  for (const Job& job : songs.list(filter, call.owner).jobs) {
    json["songs"].push_back(studio_job(job));
    json["liked_ids"].push_back(job.id);
  }
  return json;
}

Answer startup(const EngineStatus& status) {
  const bool ready = status.state == EngineStatus::State::kReady;
  const bool failed = status.state == EngineStatus::State::kFailed;
  return Answer::json({{"status", ready    ? "ready"
                                  : failed ? "error"
                                           : "loading"},
                       {"progress", static_cast<int>(100 * status.progress)},
                       {"message", ready ? "ready" : "the models are being loaded"},
                       {"error", failed ? nlohmann::json(status.error) : nlohmann::json()},
                       {"ready", ready}});
}

// "ID.mp3" of /audio/{file}.
Answer audio_file(Songs& songs, const Call& call) {
  const std::string& file = call.path.at("file");
  const size_t dot = std::min(file.rfind('.'), file.size());
  const auto format = known_audio_format(file);
  if (!format) throw HttpError(404, "there is no such file");
  return songs.audio(songs.find(file.substr(0, dot), call.owner), *format, false);
}

Route get(const std::string& path, std::function<Answer(const Call&)> handler) {
  return {.method = "GET", .path = path, .name = path, .help = {}, .is_listed = false, .handler = std::move(handler)};
}

}  // namespace

std::vector<Route> studio_backend_routes(Songs& songs, const ServerFacts& facts) {
  const auto job = [&songs](const Call& call) { return songs.find(call.id(), call.owner); };
  const auto nothing = [](const nlohmann::json& answer) {
    return [answer](const Call&) { return Answer::json(answer); };
  };
  const nlohmann::json any_object = {{"type", "object"}};
  std::vector<Route> routes = {
      get("/jobs/{id}", [job](const Call& call) { return Answer::json(studio_job(job(call))); }),
      get("/history",
          [&songs](const Call& call) {
            JobFilter filter;
            filter.limit = kHistory;
            nlohmann::json history = nlohmann::json::array();
            for (const Job& old : songs.list(filter, call.owner).jobs) history.push_back(studio_job(old));
            return Answer::json(history);
          }),
      get("/events", [&songs](const Call& call) { return songs.events(call.owner, studio_events); }),
      get("/download_track/{id}",
          [&songs, job](const Call& call) { return songs.audio(job(call), AudioFormat::kMp3, true); }),
      get("/audio/{file}", [&songs](const Call& call) { return audio_file(songs, call); }),
      get("/settings/startup/status", [facts](const Call&) { return startup(facts.status()); }),
      get("/settings/gpu/status",
          nothing(
              {{"cuda_available", false}, {"num_gpus", 0}, {"gpus", nlohmann::json::array()}, {"total_vram_gb", 0}})),
      get("/settings/gpu", nothing(nlohmann::json::object())),
      get("/settings/llm", nothing(nlohmann::json::object())),
      get("/models/lyrics", nothing({{"models", nlohmann::json::array()}})),
      get("/languages", nothing({{"languages", nlohmann::json::array()}})),
      get("/songs/liked", [&songs](const Call& call) { return Answer::json(liked_songs(songs, call)); }),
      get("/songs/liked/ids",
          [&songs](const Call& call) {
            return Answer::json({{"liked_ids", liked_songs(songs, call)["liked_ids"]}});
          }),
      get("/playlists", nothing({{"playlists", nlohmann::json::array()}})),
  };
  const auto add = [&](const char* method, const char* path, const nlohmann::json& body, auto handler) {
    routes.push_back({.method = method,
                      .path = path,
                      .name = std::string(method) + path,
                      .help = {},
                      .body = body,
                      .is_listed = false,
                      .handler = handler});
  };
  add("POST", "/generate/music", any_object, [&songs](const Call& call) { return make_song(songs, call); });
  add("PATCH", "/jobs/{id}", any_object, [&songs](const Call& call) { return rename_song(songs, call); });
  add("DELETE", "/jobs/{id}", nullptr, [&songs](const Call& call) { return delete_song(songs, call); });
  add("POST", "/jobs/{id}/cancel", nullptr, [&songs](const Call& call) {
    songs.cancel(call.id(), call.owner);
    return Answer::json({{"status", "cancelling"}, {"id", call.id()}});
  });
  add("POST", "/songs/{id}/like", nullptr, [&songs](const Call& call) { return like(songs, call, true); });
  add("DELETE", "/songs/{id}/like", nullptr, [&songs](const Call& call) { return like(songs, call, false); });
  return routes;
}

}  // namespace heartmula

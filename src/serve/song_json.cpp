#include "serve/song_json.h"

#include <algorithm>

#include "serve/song_order.h"
#include "song/request.h"

namespace heartmula {
namespace {

nlohmann::json seconds(const std::optional<int64_t>& ms) {
  return ms ? nlohmann::json(1e-3 * static_cast<double>(*ms)) : nlohmann::json();
}

nlohmann::json nullable(nlohmann::json schema) {
  schema["type"] = {schema["type"], "null"};
  return schema;
}

double fraction(int64_t done, int64_t total) {
  return total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 0.0;
}

// Frames and codec count half each.
double progress_of(const Job& job) {
  if (job.state == JobState::kDone) return 1;
  if (job.stage == kWaitingForCodec) return 0.5;
  if (job.stage == "codec") return 0.5 + 0.5 * fraction(job.stage_done, job.stage_total);
  return 0.5 * fraction(job.frames, job.max_frames);
}

nlohmann::json seconds_left(const Job& job, const SongPace& pace) {
  if (job.state == JobState::kRunning && job.seconds_left) return *job.seconds_left;
  if (job.state != JobState::kQueued || !job.place || pace.seconds <= 0) return nullptr;
  const int64_t turns = *job.place / std::max<int64_t>(pace.at_once, 1) + 1;
  return pace.seconds * static_cast<double>(turns);
}

}  // namespace

nlohmann::json song_json(const Job& job, const SongPace& pace, SongDetail detail) {
  nlohmann::json json = {{"id", job.id},
                         {"state", job_state_name(job.state)},
                         {"title", job.title},
                         {"favourite", job.favourite},
                         {"created_at", 1e-3 * static_cast<double>(job.created_ms)},
                         {"started_at", seconds(job.started_ms)},
                         {"ended_at", seconds(job.ended_ms)},
                         {"set", job.set},
                         {"variation", job.variation},
                         {"begin", nullptr},
                         {"place", nullptr},
                         {"stage", nullptr},
                         {"frames", job.frames},
                         {"max_frames", job.max_frames},
                         {"progress", progress_of(job)},
                         {"seconds_left", seconds_left(job, pace)},
                         {"audio_seconds", job.audio_seconds},
                         {"duration", nullptr},
                         {"error", nullptr}};
  if (job.begin) json["begin"] = {{"song", job.begin->id}, {"to_ms", job.begin->to_ms}};
  if (job.place) json["place"] = *job.place;
  if (job.state == JobState::kRunning && !job.stage.empty()) json["stage"] = job.stage;
  if (!job.error.empty()) json["error"] = job.error;
  nlohmann::json result = job.result.empty() ? nlohmann::json() : nlohmann::json::parse(job.result);
  if (result.contains("duration_s")) json["duration"] = result["duration_s"];
  if (detail == SongDetail::kNews) return json;
  const Request request = parse_request(job.request, job.id).request;
  json["request"] = song_settings(request);
  json["seed_text"] = std::to_string(request.song.seed.value_or(0));
  json["result"] = std::move(result);
  return json;
}

nlohmann::json song_json_schema() {
  const nlohmann::json text = {{"type", "string"}};
  const nlohmann::json number = {{"type", "number"}};
  const nlohmann::json count = {{"type", "integer"}, {"minimum", 0}};
  const auto told = [](nlohmann::json schema, const char* description) {
    schema["description"] = description;
    return schema;
  };
  const nlohmann::json begin = {{"type", {"object", "null"}},
                                {"properties", {{"song", text}, {"to_ms", count}}},
                                {"description", "the song that it goes on from"}};
  nlohmann::json properties = {
      {"id", told(text, "16 of a-z and 2-7")},
      {"state", {{"type", "string"}, {"enum", {"queued", "running", "done", "failed", "cancelled"}}}},
      {"title", text},
      {"favourite", {{"type", "boolean"}}},
      {"created_at", told(number, "Unix time in seconds, as all times")},
      {"started_at", nullable(number)},
      {"ended_at", nullable(number)},
      {"set", told(text, "id of the first of the variations that were asked for together")},
      {"variation", {{"type", "integer"}, {"minimum", 1}}},
      {"begin", begin},
      {"place", told(nullable(count), "how many queued songs come before it")},
      {"stage",
       told(nullable(text),
            "of a running one: frames, resting (others have its room in memory), waiting (for the codec), codec")},
      {"frames", told(count, "made so far, of 80 ms each")},
      {"max_frames", count},
      {"progress", {{"type", "number"}, {"minimum", 0}, {"maximum", 1}}},
      {"seconds_left", told(nullable(number), "as far as it can be told")},
      {"audio_seconds", told(number, "of audio that can be heard already")},
      {"duration", told(nullable(number), "seconds of a finished song")},
      {"error", told(nullable(text), "why a song failed")},
      {"request", song_settings_schema()},
      {"seed_text", told(text, "the seed, for those whose numbers do not hold 64 bits")},
      {"result",
       {{"type", {"object", "null"}}, {"description", "of a finished song: what the sidecar of a file says"}}}};
  return {{"type", "object"}, {"properties", std::move(properties)}, {"required", {"id", "state", "title"}}};
}

}  // namespace heartmula

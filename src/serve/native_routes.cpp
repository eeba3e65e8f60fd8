// The API of this server: its fields are heartlib's flags.
#include <charconv>
#include <chrono>

#include "base/error.h"
#include "base/json_fields.h"
#include "serve/routes.h"

namespace heartmula {
namespace {

constexpr int64_t kMostListed = 200;
constexpr int64_t kMostLengthMs = int64_t{1} << 40;

nlohmann::json text_schema() {
  return {{"type", "string"}};
}

nlohmann::json object_schema(nlohmann::json properties, const std::vector<std::string>& required = {}) {
  nlohmann::json schema = {{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = required;
  return schema;
}

nlohmann::json reference(const char* name) {
  return {{"$ref", std::string("#/components/schemas/") + name}};
}

nlohmann::json list_schema(const char* field, nlohmann::json extra = nlohmann::json::object()) {
  extra[field] = {{"type", "array"}, {"items", reference("Song")}};
  return object_schema(std::move(extra), {field});
}

// A finished song in any format, all or a part of it.
std::vector<ResponseForm> audio_forms() {
  std::vector<ResponseForm> forms = {{.status = 304, .help = "the client has it already", .type = ""}};
  for (const char* type : {"audio/flac", "audio/wav", "audio/mpeg", "audio/ogg"}) {
    forms.push_back({.status = 200, .help = "the audio", .type = type});
    forms.push_back({.status = 206, .help = "a part of it", .type = type});
  }
  return forms;
}

Parameter format_parameter(const std::vector<std::string>& formats) {
  return {.name = "format",
          .schema = {{"type", "string"}, {"enum", formats}, {"default", formats.front()}},
          .help = "of the audio"};
}

// The fields of an object that has no others.
void check_fields(const nlohmann::json& object, const std::vector<std::string>& known) {
  for (const auto& item : object.items()) {
    if (std::ranges::find(known, item.key()) == known.end()) {
      throw HttpError(400, message("the request: unknown field {}", in_quotes(item.key())));
    }
  }
}

std::string text_field(const nlohmann::json& object, const char* name) {
  if (!object.contains(name)) return {};
  if (!object[name].is_string()) throw HttpError(400, message("the request: {} must be a string", name));
  return object[name];
}

// A length that lint is to count with.
void check_length_field(const nlohmann::json& object) {
  if (!object.contains("max_audio_length_ms")) return;
  const nlohmann::json& length = object["max_audio_length_ms"];
  const bool is_large = length.is_number_unsigned() && length.get<uint64_t>() > uint64_t{kMostLengthMs};
  if (!length.is_number_integer() || is_large || length.get<int64_t>() < 0) {
    throw HttpError(400, message("the request: max_audio_length_ms must be an integer from 0 to {}", kMostLengthMs));
  }
}

std::vector<JobState> parse_states(const std::string& words) {
  std::vector<JobState> states;
  for (size_t at = 0; at < words.size();) {
    const size_t end = std::min(words.find(',', at), words.size());
    const std::string word = words.substr(at, end - at);
    const std::optional<JobState> state = job_state_named(word);
    if (!state) throw HttpError(400, message("state: there is none called {}", in_quotes(word)));
    states.push_back(*state);
    at = end + 1;
  }
  return states;
}

int64_t parse_integer(const std::string& text, int64_t fallback) {
  std::from_chars(text.data(), text.data() + text.size(), fallback);
  return fallback;
}

Answer list_songs(Songs& songs, const Call& call) {
  JobFilter filter;
  filter.states = parse_states(call.parameter("state"));
  filter.search = call.parameter("search");
  if (const std::string favourite = call.parameter("favourite"); !favourite.empty()) {
    filter.favourite = favourite == "true";
  }
  filter.set = call.parameter("set");
  filter.limit = parse_integer(call.parameter("limit"), filter.limit);
  if (const std::string before = call.parameter("before"); !before.empty()) filter.before = parse_integer(before, 0);
  const JobPage page = songs.list(filter, call.owner);
  nlohmann::json json = {{"songs", nlohmann::json::array()}, {"next", nullptr}};
  for (const Job& job : page.jobs) json["songs"].push_back(song_json(job, songs.pace()));
  if (page.next) json["next"] = std::to_string(*page.next);
  return Answer::json(json);
}

Answer accept_songs(Songs& songs, const Call& call) {
  const std::vector<Job> jobs = songs.accept(parse_song_order(call.body, songs.defaults()), call.owner);
  nlohmann::json json = {{"songs", nlohmann::json::array()}};
  for (const Job& job : jobs) json["songs"].push_back(song_json(job, songs.pace()));
  Answer answer = Answer::json(json, 202);
  answer.headers.emplace_back("Location", "/v1/songs/" + jobs.front().id);
  return answer;
}

Answer change_song(Songs& songs, const Call& call) {
  const nlohmann::json change = parse_body(call);
  check_fields(change, {"title", "favourite"});
  std::optional<std::string> title;
  if (change.contains("title")) title = text_field(change, "title");
  std::optional<bool> favourite;
  if (change.contains("favourite")) {
    if (!change["favourite"].is_boolean()) throw HttpError(400, "the request: favourite must be true or false");
    favourite = change["favourite"].get<bool>();
  }
  return Answer::json(song_json(songs.change(call.id(), call.owner, title, favourite), songs.pace()));
}

Answer begin_session(const Access& access, const Call& call) {
  const nlohmann::json json = parse_body(call);
  check_fields(json, {"key"});
  if (!json.contains("key")) throw HttpError(400, "the request: key is missing");
  const std::optional<std::string> name = access.name_of(text_field(json, "key"));
  if (access.needs_key() && !name) throw HttpError(401, "this is no key of this server");
  Answer answer = Answer::none();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  if (name) {
    answer.headers.emplace_back("Set-Cookie",
                                access.cookie(*name, std::chrono::duration_cast<std::chrono::seconds>(now).count()));
  }
  return answer;
}

Answer ready(const EngineStatus& status) {
  switch (status.state) {
    case EngineStatus::State::kReady:
      return Answer::json({{"status", "ready"}});
    case EngineStatus::State::kLoading: {
      Answer answer = Answer::json(
          {{"status", "loading"}, {"progress", status.progress}, {"message", "the models are being loaded"}}, 503);
      answer.headers.emplace_back("Retry-After", "1");
      return answer;
    }
    case EngineStatus::State::kFailed:
      break;
  }
  return Answer::json({{"status", "failed"}, {"error", status.error}}, 503);
}

std::vector<Route> song_routes(Songs& songs) {
  const ResponseForm song = {.status = 200, .help = "the song", .schema = reference("Song")};
  return {
      {.method = "POST",
       .path = "/v1/songs",
       .name = "makeSongs",
       .help = "Ask for a song, or for variations of it; they are made in the order in which they were asked for",
       .body = song_order_schema(songs.defaults()),
       .responses =
           with_errors({{.status = 202, .help = "accepted: not lost any more", .schema = list_schema("songs")}},
                       {400, 404, 409, 413, 415, 429}),
       .handler = [&songs](const Call& call) { return accept_songs(songs, call); }},
      {.method = "GET",
       .path = "/v1/songs",
       .name = "listSongs",
       .help = "Songs, the newest first",
       .query = {{.name = "state", .schema = text_schema(), .help = "of these states alone: queued,running"},
                 {.name = "search",
                  .schema = {{"type", "string"}, {"maxLength", 200}},
                  .help = "a part of title, lyrics or tags"},
                 {.name = "favourite", .schema = {{"type", "boolean"}}, .help = "only those that are, or are not"},
                 {.name = "set", .schema = text_schema(), .help = "variations that were asked for together"},
                 {.name = "limit",
                  .schema = {{"type", "integer"}, {"minimum", 1}, {"maximum", kMostListed}, {"default", 50}},
                  .help = "how many at most"},
                 {.name = "before",
                  .schema = {{"type", "integer"}, {"minimum", 0}},
                  .help = "the field next of the page before"}},
       .responses = with_errors({{.status = 200,
                                  .help = "a page of songs",
                                  .schema = list_schema("songs", {{"next", {{"type", {"string", "null"}}}}})}},
                                {400}),
       .handler = [&songs](const Call& call) { return list_songs(songs, call); }},
      {.method = "GET",
       .path = "/v1/songs/{id}",
       .name = "getSong",
       .help = "A song, and where it stands",
       .responses = with_errors({song}, {404}),
       .handler =
           [&songs](const Call& call) {
             return Answer::json(song_json(songs.find(call.id(), call.owner), songs.pace()));
           }},
      {.method = "PATCH",
       .path = "/v1/songs/{id}",
       .name = "changeSong",
       .help = "Give a song a title, or mark it",
       .body = {{"type", "object"},
                {"properties", {{"title", {{"type", "string"}}}, {"favourite", {{"type", "boolean"}}}}},
                {"additionalProperties", false}},
       .responses = with_errors({song}, {400, 404, 413, 415}),
       .handler = [&songs](const Call& call) { return change_song(songs, call); }},
      {.method = "DELETE",
       .path = "/v1/songs/{id}",
       .name = "deleteSong",
       .help = "Delete a song with its codes and audio; one that is being made is to be cancelled first",
       .responses = with_errors({{.status = 204, .help = "it is gone", .type = ""}}, {404, 409}),
       .handler =
           [&songs](const Call& call) {
             songs.remove(call.id(), call.owner);
             return Answer::none();
           }},
      {.method = "POST",
       .path = "/v1/songs/{id}/cancel",
       .name = "cancelSong",
       .help = "Make the song no more; its codes stay",
       .responses =
           with_errors({{.status = 202, .help = "it ends within a second", .schema = reference("Song")}}, {404, 409}),
       .handler =
           [&songs](const Call& call) {
             return Answer::json(song_json(songs.cancel(call.id(), call.owner), songs.pace()), 202);
           }},
  };
}

std::vector<Route> media_routes(Songs& songs) {
  return {
      {.method = "GET",
       .path = "/v1/songs/{id}/events",
       .name = "songEvents",
       .help = "The song's state now and whenever it changes, as Server-Sent Events, until it is over",
       .responses = with_errors({{.status = 200, .help = "events", .type = "text/event-stream"}}, {404}),
       .handler =
           [&songs](const Call& call) { return songs.events(songs.find(call.id(), call.owner), call.owner, {}); }},
      {.method = "GET",
       .path = "/v1/events",
       .name = "events",
       .help = "The same of all songs, without an end",
       .responses = with_errors({{.status = 200, .help = "events", .type = "text/event-stream"}}, {}),
       .handler =
           [&songs](const Call& call) {
             return songs.events(std::nullopt, call.owner,
                                 "event: hello\ndata: {\"version\":\"" HEARTMULA_VERSION "\"}\n\n");
           }},
      {.method = "GET",
       .path = "/v1/songs/{id}/audio",
       .name = "songAudio",
       .help = "A finished song; parts of it, too",
       .query = {format_parameter({"flac", "wav", "mp3", "ogg", "opus"}),
                 {.name = "download", .schema = {{"type", "boolean"}}, .help = "to be saved under the song's title"}},
       .responses = with_errors(audio_forms(), {400, 404, 409, 416}),
       .handler =
           [&songs](const Call& call) {
             return songs.audio(songs.find(call.id(), call.owner), parse_audio_format(call.parameter("format", "flac")),
                                call.parameter("download") == "true");
           }},
      {.method = "GET",
       .path = "/v1/songs/{id}/stream",
       .name = "songStream",
       .help = "The song while it is made, from the first samples to the last: s16, stereo, 48 kHz",
       .query = {format_parameter({"wav", "pcm"})},
       .responses = with_errors({{.status = 200, .help = "the audio", .type = "audio/wav"},
                                 {.status = 200, .help = "the audio", .type = kRawAudio}},
                                {400, 404, 409}),
       .handler =
           [&songs](const Call& call) {
             return songs.stream(songs.find(call.id(), call.owner), AudioFormat::kWav,
                                 call.parameter("format", "wav") == "wav");
           }},
      {.method = "GET",
       .path = "/v1/songs/{id}/spectrogram.png",
       .name = "songPicture",
       .help = "Wave and spectrogram of a finished song",
       .responses = with_errors({{.status = 200, .help = "the picture", .type = "image/png"}}, {404, 409}),
       .handler = [&songs](const Call& call) { return songs.picture(songs.find(call.id(), call.owner)); }},
      {.method = "GET",
       .path = "/v1/songs/{id}/codes",
       .name = "songCodes",
       .help = "The codes so far, as a file for `heartmula decode` and `heartmula generate --load_codes`",
       .responses =
           with_errors({{.status = 200, .help = "safetensors", .type = "application/octet-stream"}}, {404, 409}),
       .handler = [&songs](const Call& call) { return songs.codes(songs.find(call.id(), call.owner)); }},
      {.method = "GET",
       .path = "/v1/songs/{id}/request",
       .name = "songRequest",
       .help = "What `heartmula generate --request` makes the song again of",
       .responses = with_errors({{.status = 200, .help = "the request", .schema = {{"type", "object"}}}}, {404}),
       .handler = [&songs](const Call& call) { return songs.request(songs.find(call.id(), call.owner)); }},
  };
}

std::vector<Route> server_routes(const ServerFacts& facts) {
  const Access& access = *facts.access;
  const nlohmann::json any = {{"type", "object"}};
  return {
      {.method = "POST",
       .path = "/v1/lint",
       .name = "lint",
       .help = "What is odd about lyrics and tags",
       .body = {{"type", "object"},
                {"properties",
                 {{"lyrics", text_schema()},
                  {"tags", text_schema()},
                  {"max_audio_length_ms", {{"type", "integer"}, {"minimum", 0}, {"maximum", kMostLengthMs}}}}},
                {"additionalProperties", false}},
       .responses = with_errors({{.status = 200, .help = "warnings", .schema = any}}, {400, 413, 415}),
       .handler =
           [facts](const Call& call) {
             const nlohmann::json texts = parse_body(call);
             check_fields(texts, {"lyrics", "tags", "max_audio_length_ms"});
             text_field(texts, "lyrics");
             text_field(texts, "tags");
             check_length_field(texts);
             return Answer::json({{"warnings", facts.lint(texts)}});
           }},
      {.method = "GET",
       .path = "/v1/models",
       .name = "models",
       .help = "The models that make the songs",
       .responses = with_errors({{.status = 200, .help = "a list", .schema = any}}, {}),
       .handler = [facts](const Call&) { return Answer::json(facts.models()); }},
      {.method = "GET",
       .path = "/v1/limits",
       .name = "limits",
       .help = "What may be asked of this server, and what it has room for now",
       .responses = with_errors({{.status = 200, .help = "limits", .schema = any}}, {}),
       .handler = [facts](const Call&) { return Answer::json(facts.limits()); }},
      {.method = "GET",
       .path = "/v1/session",
       .name = "session",
       .help = "Whether a key is needed, and whether this browser has shown one",
       .responses = {{.status = 200, .help = "both", .schema = any}},
       .is_open = true,
       .handler =
           [&access](const Call& call) {
             return Answer::json({{"needs_key", access.needs_key()},
                                  {"logged_in", !access.needs_key() || access.owner_of(call).has_value()}});
           }},
      {.method = "POST",
       .path = "/v1/session",
       .name = "beginSession",
       .help = "Show a key: the browser gets a cookie that stands for it",
       .body = {{"type", "object"},
                {"properties", {{"key", text_schema()}}},
                {"required", {"key"}},
                {"additionalProperties", false}},
       .responses = with_errors({{.status = 204, .help = "welcome", .type = ""}}, {400, 413, 415}),
       .is_open = true,
       .handler = [&access](const Call& call) { return begin_session(access, call); }},
      {.method = "DELETE",
       .path = "/v1/session",
       .name = "endSession",
       .help = "Forget the key",
       .responses = {{.status = 204, .help = "forgotten", .type = ""}},
       .is_open = true,
       .handler =
           [&access](const Call&) {
             Answer answer = Answer::none();
             answer.headers.emplace_back("Set-Cookie", access.cookie({}, 0));
             return answer;
           }},
      {.method = "GET",
       .path = "/health",
       .name = "health",
       .help = "Whether the server answers",
       .responses = {{.status = 200, .help = "it does", .schema = any}},
       .is_open = true,
       .handler =
           [facts](const Call&) {
             const bool loaded = facts.status().state == EngineStatus::State::kReady;
             return Answer::json({{"status", "ok"}, {"version", HEARTMULA_VERSION}, {"model_loaded", loaded}});
           }},
      {.method = "GET",
       .path = "/ready",
       .name = "ready",
       .help = "Whether songs can be made now; while models are loaded they can be asked for already",
       .responses = {{.status = 200, .help = "they can", .schema = any},
                     {.status = 503, .help = "not yet, or not any more", .schema = any}},
       .is_open = true,
       .handler = [facts](const Call&) { return ready(facts.status()); }},
      {.method = "GET",
       .path = "/metrics",
       .name = "metrics",
       .help = "For Prometheus",
       .responses = with_errors({{.status = 200, .help = "metrics", .type = "text/plain; version=0.0.4"}}, {}),
       .handler =
           [facts](const Call&) { return Answer{.type = "text/plain; version=0.0.4", .body = facts.metrics()}; }},
  };
}

}  // namespace

nlohmann::json parse_body(const Call& call) {
  try {
    return parse_json_object(call.body, "the request");
  } catch (const Error& error) {
    throw HttpError(400, error.what());
  }
}

std::vector<ResponseForm> with_errors(std::vector<ResponseForm> responses, const std::vector<int>& errors,
                                      const char* schema) {
  for (const int status : errors) {
    responses.push_back({.status = status, .help = "what is wrong", .schema = reference(schema)});
  }
  responses.push_back({.status = 401, .help = "a key is needed", .schema = reference(schema)});
  return responses;
}

std::vector<Route> native_routes(Songs& songs, const ServerFacts& facts) {
  std::vector<Route> routes = song_routes(songs);
  for (const std::vector<Route>& more : {media_routes(songs), server_routes(facts)}) {
    routes.insert(routes.end(), more.begin(), more.end());
  }
  return routes;
}

}  // namespace heartmula

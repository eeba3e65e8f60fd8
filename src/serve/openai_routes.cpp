// What OpenAI's clients call: speech, of which `input` is the lyrics and `instructions` are the tags.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/json_fields.h"
#include "serve/live_audio.h"
#include "serve/routes.h"

namespace heartmula {
namespace {

constexpr const char* kWhat = "the request";

struct Speech {
  SongOrder order;
  std::string format = "mp3";  // mp3, opus, flac, wav or pcm
  bool as_events = false;
};

std::string text_or(const nlohmann::json& json, const char* field, const std::string& fallback) {
  if (!json.contains(field) || json[field].is_null()) return fallback;
  if (!json[field].is_string()) throw HttpError(400, message("{}: {} must be a string", kWhat, field));
  return json[field];
}

// Fields that this server has names of its own for, and those that mean nothing to it.
bool is_openai_field(const std::string& name) {
  const char* const fields[] = {"model", "input", "instructions", "voice", "response_format", "speed", "stream_format"};
  return std::ranges::find(fields, name) != std::end(fields);
}

Speech parse_speech(const Call& call, const Request& defaults) {
  const nlohmann::json json = parse_body(call);
  Speech speech;
  speech.format = text_or(json, "response_format", "mp3");
  const char* const formats[] = {"mp3", "opus", "flac", "wav", "pcm"};
  if (std::ranges::find(formats, speech.format) == std::end(formats)) {
    throw HttpError(
        400, message("{}: response_format {} must be mp3, opus, flac, wav or pcm", kWhat, in_quotes(speech.format)));
  }
  const std::string stream = text_or(json, "stream_format", "audio");
  if (stream != "audio" && stream != "sse") {
    throw HttpError(400, message("{}: stream_format {} must be audio or sse", kWhat, in_quotes(stream)));
  }
  speech.as_events = stream == "sse";
  nlohmann::json order = nlohmann::json::object();
  for (const auto& item : json.items()) {
    if (!is_openai_field(item.key())) order[item.key()] = item.value();
  }
  if (!json.contains("input") || !json["input"].is_string()) {
    throw HttpError(400, message("{}: input must be a string, the lyrics", kWhat));
  }
  order["lyrics"] = text_or(json, "input", {});
  order["tags"] = text_or(json, "instructions", defaults.song.tags);
  order.erase("songs");
  speech.order = song_order(order, defaults);
  return speech;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    unsigned group = 0;
    for (size_t i = 0; i < 3; ++i) {
      group = group << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    }
    for (size_t i = 0; i < 4; ++i) {
      text += at + i <= bytes.size() ? kDigits[group >> (18 - 6 * i) & 63] : '=';
    }
  }
  return text;
}

// A sink of bytes that sends them as events.
StreamSink as_deltas(const StreamSink& sink) {
  return [&sink](std::string_view bytes) {
    if (bytes.empty()) return sink({});
    return sink(fmt::format("data: {{\"type\":\"speech.audio.delta\",\"audio\":\"{}\"}}\n\n", base64(bytes)));
  };
}

AudioFormat file_format(const std::string& name) {
  return name == "pcm" ? AudioFormat::kWav : parse_audio_format(name);
}

// All of the file of a finished song.
void send_file(Songs& songs, const Job& job, AudioFormat format, const StreamSink& sink) {
  constexpr size_t kPiece = 48 * 1024;
  const Answer file = songs.audio(job, format, false);
  const auto bytes = file.file->bytes();
  for (size_t at = 0; at < bytes.size(); at += kPiece) {
    const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
    if (!sink({reinterpret_cast<const char*>(piece.data()), piece.size()})) return;
  }
}

// While the song is made, where the format lets it be heard; else as soon as it is done.
void send_song(Songs& songs, const Job& job, const std::string& format, const StreamSink& sink) {
  if (format == "wav" || format == "pcm") {
    if (format == "wav" && !sink(endless_wav_header())) return;
    songs.listen(job, sink);
    return;
  }
  const Job over = songs.wait(job, sink);
  if (over.state == JobState::kDone) send_file(songs, over, file_format(format), sink);
}

Answer speak(Songs& songs, const Call& call) {
  const Speech speech = parse_speech(call, songs.defaults());
  const Job job = songs.accept(speech.order, call.owner).front();
  Answer answer = {.type = speech.format == "pcm" ? kRawAudio : media_type(file_format(speech.format)),
                   .headers = {{"X-Heartmula-Song", job.id}, {"X-Accel-Buffering", "no"}}};
  if (!speech.as_events) {
    answer.stream = [&songs, job, format = speech.format](const StreamSink& sink) {
      send_song(songs, job, format, sink);
    };
    return answer;
  }
  answer.type = "text/event-stream";
  answer.stream = [&songs, job, format = speech.format](const StreamSink& sink) {
    send_song(songs, job, format, as_deltas(sink));
    sink(
        "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":0,\"output_tokens\":0,\"total_tokens\":0}}"
        "\n\ndata: [DONE]\n\n");
  };
  return answer;
}

std::vector<ResponseForm> speech_forms() {
  std::vector<ResponseForm> forms;
  for (const char* type : {"audio/mpeg", "audio/ogg", "audio/flac", "audio/wav", "audio/pcm", "text/event-stream"}) {
    forms.push_back({.status = 200, .help = "the audio", .type = type});
  }
  return forms;
}

}  // namespace

std::vector<Route> openai_routes(Songs& songs) {
  nlohmann::json schema = song_order_schema(songs.defaults());
  nlohmann::json& fields = schema["properties"];
  for (const char* name : {"lyrics", "tags", "songs"}) fields.erase(name);
  fields["model"] = {{"type", "string"}, {"description", "there is only one"}};
  fields["input"] = {{"type", "string"}, {"description", "the lyrics"}};
  fields["instructions"] = {{"type", "string"}, {"description", "the tags"}};
  fields["voice"] = {{"description", "means nothing here"}};
  fields["speed"] = {{"description", "means nothing here"}};
  fields["response_format"] = {{"type", "string"}, {"enum", {"mp3", "opus", "flac", "wav", "pcm"}}, {"default", "mp3"}};
  fields["stream_format"] = {{"type", "string"}, {"enum", {"audio", "sse"}}, {"default", "audio"}};
  schema["required"] = {"input"};
  return {{.method = "POST",
           .path = "/v1/audio/speech",
           .name = "createSpeech",
           .help =
               "OpenAI's speech: a song whose lyrics are `input` and whose tags are `instructions`; wav and pcm are "
               "sent while it is made",
           .body = std::move(schema),
           .responses = with_errors(speech_forms(), {400, 404, 409, 413, 415, 429}, "OpenAiError"),
           .has_error_objects = true,
           .handler = [&songs](const Call& call) { return speak(songs, call); }}};
}

}  // namespace heartmula

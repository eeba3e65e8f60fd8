#include "song/song_job.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <new>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/message.h"
#include "lm/muq_embed.h"
#include "song/settings.h"
#include "song/song_result.h"
#include "text/prompt.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

// Whether the codes are the beginning of what `request` makes without them: then it goes on as if never interrupted.
bool is_beginning_of(const Codes& codes, const Request& request, const ModelIdentity& model) {
  const CodesOrigin& origin = codes.origin;
  if (origin.request_json.empty() || request.song.continue_from_ms) return false;
  if (origin.language_model != model.fingerprint) return false;
  Request made = parse_request(origin.request_json, codes.name).request;
  if (!made.song.load_codes.empty()) return false;
  made.song.load_codes = request.song.load_codes;
  made.song.max_audio_length_ms = request.song.max_audio_length_ms;  // the longer song begins as the shorter one
  return same_codes(made, request);
}

// Whether codes were saved for good, and not left by a run that was interrupted.
bool are_kept(const Codes& codes) {
  return !parse_request(codes.origin.request_json, codes.name).request.output.save_codes.empty();
}

// The frames that a song begins with.
std::vector<Frame> kept_frames(const Request& request, const Codes& codes, const LmConfig& config) {
  std::vector<Frame> frames = codes.frames;
  const auto stored = static_cast<int64_t>(frames.size());
  const int64_t keep = request.song.continue_from_ms ? *request.song.continue_from_ms / kFrameMs : stored;
  if (keep > stored) {
    throw user_error("--continue_from_ms is {}, but {} ends after {} ms", *request.song.continue_from_ms, codes.name,
                     stored * kFrameMs);
  }
  frames.resize(static_cast<size_t>(keep));
  check_codes(config, frames, codes.name);
  const int64_t most = *request.song.max_audio_length_ms / kFrameMs + 1;
  if (keep > most) {
    throw user_error(
        "{} keeps {} ms, more than --max_audio_length_ms {} for the whole song; raise it, or use "
        "--continue_from_ms",
        codes.name, keep * kFrameMs, *request.song.max_audio_length_ms);
  }
  return frames;
}

}  // namespace

Error as_error(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return error.kind() == ErrorKind::kCancelled ? Error(ErrorKind::kCancelled, "cancelled") : error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::kFailure, "out of memory");
  } catch (const std::exception& error) {
    return Error(ErrorKind::kFailure, error.what());
  }
}

void apply(const MemorySaving& saving, Request& request) {
  request.machine.lazy_load = request.machine.lazy_load || saving.lazy_load;
  if (saving.bf16_codec) request.checkpoint.codec_dtype = DType::kBF16;
}

void resolve_codec(Request& request, const Models& models) {
  request.codec = resolve_codec_settings(request.codec, models.codec_config());
}

std::optional<std::string> origin_note(const std::string& codes, const std::string& made_by, const char* model,
                                       const ModelIdentity& identity) {
  if (made_by.empty() || made_by == identity.fingerprint) return std::nullopt;
  return message("{}: made with another {} ({}) than {} ({})", codes, model, made_by, identity.name,
                 identity.fingerprint);
}

ProgressSink progress_with_profile(Profile* profile, const ProgressSink& progress) {
  if (profile == nullptr) return progress;
  return [profile, progress](std::string_view stage, int64_t done, int64_t total, double seconds) {
    if (stage == "frames") profile->part_done(Profile::Track::kLanguageModel, fmt::format("frame {}", done - 1));
    if (stage == "codec") profile->part_done(Profile::Track::kCodec, fmt::format("codec step {}", done));
    if (progress) progress(stage, done, total, seconds);
  };
}

SongJob::SongJob(Request request, Models& models, SongJobSettings settings)
    : request_(std::move(request)), models_(models), settings_(std::move(settings)) {
  const LmConfig& config = models.lm_config();
  text_ = make_song_text(models, request_.song);
  if (!request_.song.muq_embed.empty())
    text_.prompts[0].muq_embed = read_muq_embed(request_.song.muq_embed, config.muq_dim);
  resolve_codec(request_, models);
  resolve_length();
  check_lengths(request_);
  resolve_passages(text_, models, request_.song);
  if (request_.run.goes_on && request_.song.load_codes.empty()) find_codes();
  if (!request_.song.load_codes.empty()) load_codes();
}

// Those that a run left that was killed before it could tell of them.
void SongJob::find_codes() {
  const fs::path path = usual_codes_path(request_);
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return;
  Request goes_on = request_;
  goes_on.song.load_codes = path.string();
  try {
    if (is_beginning_of(read_codes(path), goes_on, models_.lm_identity())) request_ = std::move(goes_on);
  } catch (const Error&) {  // another file: it is set aside
  }
}

// A length that nobody gave is cut to what the model can hold.
void SongJob::resolve_length() {
  if (request_.song.max_audio_length_ms) return;
  if (request_.song.long_song != LongSong::kNone) {
    request_.song.max_audio_length_ms = kDefaultAudioLengthMs;
    return;
  }
  const int64_t longest = longest_audio_ms(models_.lm_config(), text_.prompt());
  request_.song.max_audio_length_ms = std::min(kDefaultAudioLengthMs, std::max<int64_t>(longest, 0));
  if (longest >= kDefaultAudioLengthMs || longest <= 0) return;  // a prompt that does not fit is an error
  note(fmt::format("the song is at most {:.1f} s long: the model's context holds no more",
                   static_cast<double>(longest) * 1e-3));
}

void SongJob::note(const std::string& text) {
  notes_.push_back(text);
  if (settings_.told == nullptr || settings_.told->insert(text).second) spdlog::warn(text);
}

void SongJob::load_codes() {
  const bool is_file = settings_.codes == nullptr;
  const Codes loaded = is_file ? read_codes(request_.song.load_codes) : *settings_.codes;
  const ModelIdentity& model = models_.lm_identity();
  const bool is_beginning = is_beginning_of(loaded, request_, model);
  if (is_file) on_disk_ = {.path = request_.song.load_codes, .is_unfinished = is_beginning && !are_kept(loaded)};
  if (const auto text = origin_note(loaded.name, loaded.origin.language_model, "language model", model)) note(*text);
  begin_ = kept_frames(request_, loaded, models_.lm_config());
  if (!begin_.empty() && request_.song.guesses_change_it() && request_.machine.draft_frames.value_or(0) > 0) {
    note(fmt::format(
        "goes on from frame {}: guesses of whole frames (--draft_frames above 0) are verified from there on, "
        "so that what follows may be another song than one that was never interrupted",
        begin_.size()));
  }
  if (is_beginning) request_.song.load_codes.clear();
}

SongSize SongJob::size() const {
  return request_.size(text_.context, static_cast<int64_t>(begin_.size()));
}

void SongJob::save_memory(const MemorySaving& saving, const std::string& note) {
  notes_.push_back(note);
  apply(saving, request_);
}

void SongJob::open_output() {
  output_.emplace(request_, settings_.audio, settings_.cancel, settings_.start, settings_.has_song_lock);
}

void SongJob::open_codes(const MemoryPlan& plan) {
  plan_ = plan;
  codes_ = prepare_codes_path(request_, output_->is_stream(), on_disk_);
  codes_lock_.emplace(codes_, request_.output.save_codes.empty() ? "--save_path" : "--save_codes");
  const CodesOrigin origin = {to_json(request_).dump(), models_.lm_identity().fingerprint,
                              models_.codec_identity().fingerprint};
  writer_.emplace(codes_, origin, begin_);
}

SongHooks SongJob::hooks() {
  return {.progress = progress_with_profile(settings_.profile, settings_.progress),
          .frame =
              [this](int64_t index, const Frame& frame) {
                writer_->append(frame);
                frames_ = index + 1;
              },
          .audio = [this](std::span<const float> left, std::span<const float> right) { output_->write(left, right); }};
}

std::optional<KeptCodes> SongJob::kept() const {
  if (frames_ > 0) return KeptCodes{codes_.string(), frames_};
  if (on_disk_.is_unfinished) return KeptCodes{on_disk_.path.string(), static_cast<int64_t>(begin_.size())};
  return std::nullopt;
}

Request SongJob::going_on() const {
  Request request = request_;
  if (frames_ > 0) {
    request.song.load_codes = codes_.string();
    request.song.continue_from_ms.reset();
  } else if (!on_disk_.path.empty()) {
    request.song.load_codes = on_disk_.path.string();
  }
  return request;
}

nlohmann::json SongJob::finish(const SongOutcome& outcome) {
  output_->end(outcome.stop_reason == StopReason::kLength);
  nlohmann::json json = {{"request", to_json(request_)},
                         {"result", result_of(request_.song, outcome, *output_, plan_, outcome.stop_reason,
                                              seconds_since(settings_.start), models_, notes_, plan_.songs == 1)}};
  output_->finish(request_, json);
  if (request_.output.save_codes.empty()) {
    writer_->remove();
  } else {
    writer_->finish();
  }
  return json;
}

std::optional<nlohmann::json> SongJob::give_up(bool cancelled) {
  const std::optional<KeptCodes> codes = kept();
  if (!codes) return std::nullopt;
  if (frames_ > 0) writer_->finish();
  if (!cancelled || !output_) return std::nullopt;
  nlohmann::json json = {
      {"request", to_json(request_)},
      {"result", cancelled_result(codes->frames, codes->path, plan_, seconds_since(settings_.start), models_, notes_)}};
  output_->finish_cancelled(json);
  return json;
}

void SongJob::close() {
  output_.reset();
  writer_.reset();
  codes_lock_.reset();
  begin_ = {};
}

std::string SongJob::next_path() const {
  if (!output_ || !output_->is_stream()) return request_.output.save_path;
  return unused_path(fmt::format("song.{}", audio_format_name(request_.output.resolved_format())));
}

}  // namespace heartmula

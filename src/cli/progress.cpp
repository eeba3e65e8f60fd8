#include "cli/progress.h"

#include <fmt/format.h>
#include <spdlog/formatter.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "heartmula/frame.h"

namespace heartmula {
namespace {

constexpr std::string_view kFramesStage = "frames";
constexpr std::string_view kSongsStage = "songs";
constexpr int kBarWidth = 10;

size_t terminal_width(std::FILE* out) {
  winsize size = {};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

ProgressMode resolve(ProgressMode mode, std::FILE* out) {
  if (mode != ProgressMode::kAuto) return mode;
  return ::isatty(::fileno(out)) != 0 ? ProgressMode::kBar : ProgressMode::kLines;
}

/// "8 s", "3:52", "1:02:03"
std::string whole_seconds(double duration) {
  const auto whole = static_cast<int64_t>(std::min(duration, 3.6e6));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

/// Text of any bytes, in an object of one line.
std::string object_line(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& line) override {
    const auto view = [](const spdlog::string_view_t& text) { return std::string(text.data(), text.size()); };
    const std::string text = object_line(
        {{"event", view(spdlog::level::to_string_view(message.level))}, {"message", view(message.payload)}});
    line.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonFormatter>(); }
};

}  // namespace

std::string duration_text(double duration) {
  if (duration < 1e-3) return fmt::format("{:.1f} ms", 1e3 * duration);
  if (duration < 0.9995) return fmt::format("{:.0f} ms", 1e3 * duration);
  if (duration < 59.95) return fmt::format("{:.1f} s", duration);
  return whole_seconds(std::round(duration));
}

bool asks_for_json_progress(std::span<const char* const> arguments) {
  bool asks = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view word = arguments[i];
    if (word == "--") break;
    if (word == "--progress" && i + 1 < arguments.size()) asks = std::string_view(arguments[i + 1]) == "json";
    if (word.starts_with("--progress=")) asks = word == "--progress=json";
  }
  return asks;
}

std::string error_event(std::string_view message, int exit_code) {
  return object_line({{"event", "error"}, {"message", message}, {"exit_code", exit_code}});
}

void log_as_json() {
  spdlog::set_formatter(std::make_unique<JsonFormatter>());
}

ProgressMode parse_progress_mode(std::string_view name) {
  if (name == "auto") return ProgressMode::kAuto;
  if (name == "bar") return ProgressMode::kBar;
  if (name == "lines") return ProgressMode::kLines;
  if (name == "json") return ProgressMode::kJson;
  if (name == "none") return ProgressMode::kNone;
  throw user_error("--progress {}: use auto, bar, lines, json or none", name);
}

double ProgressReporter::Stage::fraction() const {
  return total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 1.0;
}

std::optional<double> ProgressReporter::Stage::rate() const {
  if (done <= first_done || seconds <= first_seconds) return std::nullopt;
  return static_cast<double>(done - first_done) / (seconds - first_seconds);
}

std::optional<double> ProgressReporter::Stage::seconds_left() const {
  if (over()) return 0.0;
  const auto speed = rate();
  if (!speed) return std::nullopt;
  return static_cast<double>(total - done) / *speed;
}

ProgressReporter::ProgressReporter(ProgressMode mode, std::FILE* out, std::function<Clock::time_point()> now)
    : mode_(resolve(mode, out)), out_(out), now_(std::move(now)) {}

void ProgressReporter::report(std::string_view name, int64_t done, int64_t total, double seconds, size_t song) {
  if (mode_ == ProgressMode::kNone) return;
  const std::lock_guard lock(mutex_);
  auto stage =
      std::find_if(stages_.begin(), stages_.end(), [&](const Stage& s) { return s.name == name && s.song == song; });
  // A stage that begins again is a new one: a second model is loaded, a second song is made.
  if (stage != stages_.end() && (done < stage->done || stage->over())) {
    stages_.erase(stage);
    stage = stages_.end();
  }
  const bool first = stage == stages_.end();
  if (first) {
    stage = stages_.insert(stages_.end(), Stage());
    stage->name = name;
    stage->song = song;
    stage->first_done = done;
    stage->first_seconds = seconds;
  }
  stage->done = done;
  stage->total = total;
  stage->seconds = seconds;

  const Clock::time_point now = now_();
  if (!due(*stage, first, now)) return;
  stage->printed_done = done;
  stage->printed_at = now;
  switch (mode_) {
    case ProgressMode::kJson:
      print_json(*stage);
      break;
    case ProgressMode::kBar:
      if (stage->over()) write(fmt::format("\r{}\x1b[K\n", text(*stage, false)));
      draw();
      break;
    default:
      write(text(*stage, false) + "\n");
  }
  std::fflush(out_);
}

// Whether anybody reads it is no reason to end a song.
void ProgressReporter::write(const std::string& text) {
  std::fputs(text.c_str(), out_);
}

bool ProgressReporter::due(const Stage& stage, bool first, Clock::time_point now) const {
  if (first || stage.over()) return true;
  const auto waited = now - stage.printed_at;
  if (mode_ != ProgressMode::kLines) return waited >= std::chrono::milliseconds(100);
  const bool a_tenth = 10 * (stage.done - stage.printed_done) >= stage.total;
  return waited >= std::chrono::seconds(60) || (waited >= std::chrono::seconds(5) && a_tenth);
}

std::string ProgressReporter::text(const Stage& stage, bool with_bar) const {
  const bool frames = stage.name == kFramesStage;
  std::string text = stage.name;
  if (text == kSongsStage) return text + fmt::format(" {}/{}", stage.done, stage.total);
  if (with_bar) {
    const auto filled = static_cast<size_t>(std::floor(kBarWidth * stage.fraction()));
    text += fmt::format(" [{:-<{}}]", std::string(filled, '#'), kBarWidth);
  }
  if (frames) {
    text += fmt::format(" {}/{}", stage.done, stage.total);
  } else {
    text += fmt::format(" {:.0f} %", std::floor(100 * stage.fraction()));
  }
  if (const auto rate = stage.rate(); rate && frames) {
    const double real_time_factor = 1000.0 / (static_cast<double>(kFrameMs) * *rate);
    text += fmt::format(", {:.1f}/s, {} {:.2f}", *rate, mode_ == ProgressMode::kBar ? "RTF" : "real-time factor",
                        real_time_factor);
  }
  if (stage.over()) {
    text += ", took " + duration_text(stage.seconds);
  } else if (const auto left = stage.seconds_left()) {
    text += fmt::format(", {} left", whole_seconds(std::ceil(*left)));
  }
  return text;
}

void ProgressReporter::draw() {
  std::string line;
  for (const Stage& stage : stages_) {
    if (stage.over()) continue;
    line += line.empty() ? text(stage, true) : " | " + text(stage, false);
  }
  drawn_ = !line.empty();
  // One column stays free: a full line would wrap, and then not be drawn over.
  if (drawn_) write(fmt::format("\r{}\x1b[K", line.substr(0, terminal_width(out_) - 1)));
}

void ProgressReporter::print_json(const Stage& stage) {
  const auto left = stage.seconds_left();
  nlohmann::ordered_json json = {{"stage", stage.name},
                                 {"done", stage.done},
                                 {"total", stage.total},
                                 {"seconds", stage.seconds},
                                 {"eta_s", left ? nlohmann::ordered_json(*left) : nlohmann::ordered_json()}};
  if (stage.song > 0) json["song"] = stage.song;
  write(object_line(json));
}

void ProgressReporter::finish() {
  const std::lock_guard lock(mutex_);
  if (drawn_) write("\n");
  drawn_ = false;
  std::fflush(out_);
}

}  // namespace heartmula

// How far the work is: on a terminal, in a log, or for another program.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

enum class ProgressMode {
  kAuto,   ///< kBar on a terminal, else kLines
  kBar,    ///< one line that is drawn again and again
  kLines,  ///< a line now and then: every 10 %, but not within 5 s, and every minute
  kJson,   ///< {"stage","done","total","seconds","eta_s"} a line, at most ten a second; eta_s is null while unknown;
           ///< with "song", from 1 on, where there are several
  kNone,
};

/// "auto", "bar", "lines", "json" or "none". Throws Error(kUser) for anything else.
ProgressMode parse_progress_mode(std::string_view name);

/// What something took, in seconds: "0.4 ms", "8 ms", "3.2 s", "3:52", "1:02:03".
std::string duration_text(double duration);

/// Whether a command line asks for --progress json, also one that is wrong elsewhere.
bool asks_for_json_progress(std::span<const char* const> arguments);

/// {"event":"error","message":...,"exit_code":...} and a line feed: what ends a run with --progress json that failed.
std::string error_event(std::string_view message, int exit_code);

/// From now on spdlog's messages are objects, too: {"event":"warning","message":...}; "event" is their level.
void log_as_json();

/// Thread-safe: stages may run at the same time.
class ProgressReporter {
 public:
  using Clock = std::chrono::steady_clock;

  explicit ProgressReporter(ProgressMode mode, std::FILE* out = stderr,
                            std::function<Clock::time_point()> now = Clock::now);

  /// Never kAuto.
  ProgressMode mode() const { return mode_; }

  /// `done` of `total` parts of the stage `name` after `seconds` of work on it. The parts of the stage "frames" are
  /// frames of music. Speed is that since the stage's first report, so that neither preparations nor frames kept from
  /// an earlier run count. A stage is over when done reaches total. `song`: one of several, from 1 on.
  void report(std::string_view name, int64_t done, int64_t total, double seconds, size_t song = 0);

  /// Ends the line that a bar is drawn on. Call it before anything else is printed.
  void finish();

 private:
  struct Stage {
    std::string name;
    size_t song = 0;
    int64_t first_done = 0;
    double first_seconds = 0;
    int64_t done = 0;
    int64_t total = 0;
    double seconds = 0;
    int64_t printed_done = 0;
    Clock::time_point printed_at;

    bool over() const { return done >= total; }
    double fraction() const;
    /// Parts a second.
    std::optional<double> rate() const;
    std::optional<double> seconds_left() const;
  };

  bool due(const Stage& stage, bool first, Clock::time_point now) const;
  std::string text(const Stage& stage, bool with_bar) const;
  void draw();
  void write(const std::string& text);
  void print_json(const Stage& stage);

  ProgressMode mode_;
  std::FILE* out_;
  std::function<Clock::time_point()> now_;
  std::mutex mutex_;
  std::vector<Stage> stages_;  // in the order of their first reports
  bool drawn_ = false;         // the cursor is behind a bar
};

}  // namespace heartmula

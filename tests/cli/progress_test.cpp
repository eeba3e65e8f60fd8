#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "cli/songs_progress.h"
#include "heartmula/error.h"

namespace heartmula {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

/// A reporter whose clock stands still until it is told.
class Recorded {
 public:
  explicit Recorded(ProgressMode mode)
      : out_(::open_memstream(&text_, &size_)), reporter_(mode, out_, [this] { return now_; }) {}
  ~Recorded() {
    std::fclose(out_);
    std::free(text_);
  }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  ProgressReporter& reporter() { return reporter_; }
  void advance(double seconds) {
    now_ += std::chrono::duration_cast<ProgressReporter::Clock::duration>(std::chrono::duration<double>(seconds));
  }
  ProgressReporter::Clock::time_point now() const { return now_; }
  std::string text() {
    std::fflush(out_);
    return {text_, size_};
  }
  std::vector<std::string> lines() {
    std::istringstream stream(text());
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
  std::FILE* out_;
  ProgressReporter::Clock::time_point now_ = ProgressReporter::Clock::time_point() + std::chrono::hours(1);
  ProgressReporter reporter_;
};

TEST(Progress, modes_have_names) {
  EXPECT_EQ(parse_progress_mode("json"), ProgressMode::kJson);
  EXPECT_EQ(parse_progress_mode("auto"), ProgressMode::kAuto);
  try {
    parse_progress_mode("dots");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    EXPECT_THAT(error.what(), HasSubstr("dots"));
  }
}

TEST(Progress, automatic_mode_prints_lines_where_there_is_no_terminal) {
  Recorded recorded(ProgressMode::kAuto);
  EXPECT_EQ(recorded.reporter().mode(), ProgressMode::kLines);
}

TEST(Progress, none_is_silent) {
  Recorded recorded(ProgressMode::kNone);
  recorded.reporter().report("frames", 1, 1, 1);
  recorded.reporter().finish();
  EXPECT_EQ(recorded.text(), "");
}

TEST(Progress, lines_come_now_and_then) {
  Recorded recorded(ProgressMode::kLines);
  recorded.reporter().report("load", 1, 1, 3.2);
  for (int i = 1; i <= 1000; ++i) {
    recorded.advance(0.08);
    recorded.reporter().report("frames", i, 1000, 2 + 0.08 * i);
  }
  const auto lines = recorded.lines();
  ASSERT_EQ(lines.size(), 12u);  // load, the first frame, nine tenths after it, the last
  EXPECT_EQ(lines[0], "load 100 %, took 3.2 s");
  EXPECT_EQ(lines[1], "frames 1/1000");
  EXPECT_EQ(lines[2], "frames 101/1000, 12.5/s, real-time factor 1.00, 1:12 left");
  EXPECT_EQ(lines[11], "frames 1000/1000, 12.5/s, real-time factor 1.00, took 1:22");
}

TEST(Progress, slow_work_is_heard_of_every_minute) {
  Recorded recorded(ProgressMode::kLines);
  for (int i = 0; i <= 10; ++i) {
    recorded.reporter().report("codec", i, 100'000, 30.0 * i);
    recorded.advance(30);
  }
  EXPECT_EQ(recorded.lines().size(), 6u);
  EXPECT_EQ(recorded.lines().back(), "codec 0 %, 833:15:00 left");
}

TEST(Progress, frames_of_an_earlier_run_do_not_count_for_speed) {
  Recorded recorded(ProgressMode::kLines);
  recorded.reporter().report("frames", 501, 1000, 20.0);
  recorded.advance(10);
  recorded.reporter().report("frames", 601, 1000, 30.0);
  EXPECT_EQ(recorded.lines().back(), "frames 601/1000, 10.0/s, real-time factor 1.25, 40 s left");
}

TEST(Progress, json_is_one_object_a_line) {
  Recorded recorded(ProgressMode::kJson);
  recorded.reporter().report("frames", 1, 100, 1.5);
  recorded.reporter().report("frames", 2, 100, 1.6);  // within a tenth of a second: left out
  recorded.advance(1);
  recorded.reporter().report("frames", 11, 100, 2.5);
  recorded.reporter().report("frames", 100, 100, 11.4);
  recorded.reporter().finish();
  const auto lines = recorded.lines();
  ASSERT_EQ(lines.size(), 3u);
  const auto first = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(first["stage"], "frames");
  EXPECT_TRUE(first["eta_s"].is_null());
  const auto second = nlohmann::json::parse(lines[1]);
  EXPECT_EQ(second["done"], 11);
  EXPECT_EQ(second["total"], 100);
  EXPECT_EQ(second["seconds"], 2.5);
  EXPECT_NEAR(second["eta_s"].get<double>(), 8.9, 1e-9);
  EXPECT_EQ(nlohmann::json::parse(lines[2])["eta_s"], 0.0);
}

TEST(Progress, a_bar_is_drawn_over_and_ends_with_a_line) {
  Recorded recorded(ProgressMode::kBar);
  recorded.reporter().report("load", 1, 1, 0.5);
  EXPECT_EQ(recorded.text(), "\rload 100 %, took 500 ms\x1b[K\n");
  recorded.reporter().report("frames", 1, 5, 0.5);
  EXPECT_THAT(recorded.text(), EndsWith("\n\rframes [##--------] 1/5\x1b[K"));
  recorded.advance(1);
  recorded.reporter().report("frames", 3, 5, 1.5);
  EXPECT_THAT(recorded.text(), EndsWith("\rframes [######----] 3/5, 2.0/s, RTF 6.25, 1 s left\x1b[K"));
  recorded.reporter().report("codec", 1, 4, 1);
  EXPECT_THAT(recorded.text(), EndsWith("\rframes [######----] 3/5, 2.0/s, RTF 6.25, 1 s left | codec 25 %\x1b[K"));
  recorded.reporter().report("frames", 5, 5, 2.5);
  EXPECT_THAT(recorded.text(),
              EndsWith("\rframes 5/5, 2.0/s, RTF 6.25, took 2.5 s\x1b[K\n\rcodec [##--------] 25 %\x1b[K"));
  recorded.reporter().finish();
  recorded.reporter().finish();
  EXPECT_THAT(recorded.text(), EndsWith("25 %\x1b[K\n"));
}

TEST(Progress, a_stage_may_come_again) {
  Recorded recorded(ProgressMode::kLines);
  recorded.reporter().report("load", 1, 1, 1);
  recorded.reporter().report("load", 1, 1, 2);
  EXPECT_THAT(recorded.lines(), ElementsAre("load 100 %, took 1.0 s", "load 100 %, took 2.0 s"));
}

TEST(Progress, durations_are_those_that_were) {
  const std::pair<double, const char*> cases[] = {{0.0004, "0.4 ms"}, {0.008, "8 ms"}, {0.9994, "999 ms"},
                                                  {0.9996, "1.0 s"},  {3.21, "3.2 s"}, {59.94, "59.9 s"},
                                                  {59.96, "1:00"},    {232.4, "3:52"}, {3723, "1:02:03"}};
  for (const auto& [seconds, text] : cases) EXPECT_EQ(duration_text(seconds), text);
}

TEST(Progress, errors_are_objects_of_one_line) {
  const std::string line = error_event("no \"such\" file\n\xff", 2);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto object = nlohmann::json::parse(line);
  EXPECT_EQ(object["event"], "error");
  EXPECT_EQ(object["message"], "no \"such\" file\n\uFFFD");
  EXPECT_EQ(object["exit_code"], 2);
}

TEST(Progress, warnings_are_objects_with_json) {
  const auto before = spdlog::default_logger();
  std::ostringstream out;
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(out)));
  log_as_json();
  spdlog::warn("song \"{}\":\n{}", 1, "clipping");
  spdlog::set_default_logger(before);
  EXPECT_EQ(out.str(), "{\"event\":\"warning\",\"message\":\"song \\\"1\\\":\\nclipping\"}\n");
}

TEST(Progress, json_is_known_before_the_command_line_is_understood) {
  const auto asks = [](std::initializer_list<const char*> words) {
    return asks_for_json_progress({words.begin(), words.size()});
  };
  EXPECT_TRUE(asks({"heartmula", "generate", "--progress", "json", "--nonsense"}));
  EXPECT_TRUE(asks({"heartmula", "generate", "--progress=json"}));
  EXPECT_FALSE(asks({"heartmula", "generate", "--progress", "json", "--progress=bar"}));
  EXPECT_FALSE(asks({"heartmula", "generate", "--progress"}));
  EXPECT_FALSE(asks({"heartmula", "tokenize", "--", "--progress", "json"}));
}

/// Songs whose clock is the reporter's.
class RecordedSongs : public Recorded {
 public:
  RecordedSongs(ProgressMode mode, size_t count)
      : Recorded(mode), songs_(reporter(), count, [this] { return now(); }) {}
  SongsProgress& songs() { return songs_; }

 private:
  SongsProgress songs_;
};

TEST(SongsProgress, is_that_of_one_piece_of_work) {
  RecordedSongs recorded(ProgressMode::kBar, 3);
  recorded.advance(1);
  recorded.songs().report(0, "frames", 1, 100, 0);
  // A song that has not begun is as long as the others.
  EXPECT_THAT(recorded.text(), EndsWith("\rframes [----------] 1/300\x1b[K"));
  recorded.advance(1);
  recorded.songs().report(1, "frames", 41, 60, 0);  // 40 of them are from an earlier run
  EXPECT_THAT(recorded.text(), EndsWith("\rframes [----------] 2/180, 1.0/s, RTF 12.50, 2:58 left\x1b[K"));
  recorded.advance(1);
  recorded.songs().has_frames(1, 45);
  EXPECT_THAT(recorded.text(), HasSubstr("frames [----------] 6/157"));
  recorded.advance(1);
  recorded.songs().report(1, "codec", 1, 2, 0.1);
  recorded.songs().is_over(1);
  EXPECT_THAT(recorded.text(), HasSubstr("| codec 16 %"));
  recorded.advance(1);
  recorded.songs().report(0, "frames", 10, 100, 0);
  EXPECT_THAT(recorded.text(), HasSubstr("| codec 33 % | songs 1/3"));
  recorded.songs().report(2, "frames", 1, 1, 0);
  recorded.songs().has_frames(2, 1);
  recorded.songs().has_frames(0, 12);
  for (const size_t song : {0, 2}) recorded.songs().is_over(song);
  EXPECT_THAT(recorded.text(), HasSubstr("\rframes 18/18"));
  EXPECT_THAT(recorded.text(), HasSubstr("\rcodec 100 %"));
  EXPECT_THAT(recorded.text(), EndsWith("\rsongs 3/3\x1b[K\n"));
}

TEST(SongsProgress, is_that_of_each_song_to_programs) {
  RecordedSongs recorded(ProgressMode::kJson, 2);
  recorded.songs().report(0, "frames", 1, 10, 0);
  recorded.songs().report(1, "frames", 1, 20, 0);
  recorded.songs().is_over(1);
  const auto lines = recorded.lines();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(nlohmann::json::parse(lines[0])["song"], 1);
  EXPECT_EQ(nlohmann::json::parse(lines[1])["song"], 2);
  EXPECT_EQ(nlohmann::json::parse(lines[1])["total"], 20);
  EXPECT_EQ(nlohmann::json::parse(lines[2])["stage"], "songs");
  EXPECT_FALSE(nlohmann::json::parse(lines[2]).contains("song"));
}

TEST(Progress, stages_report_from_two_threads) {
  Recorded recorded(ProgressMode::kJson);
  const auto work = [&](const char* stage) {
    for (int i = 1; i <= 1000; ++i) recorded.reporter().report(stage, i, 1000, i);
  };
  std::thread codec(work, "codec");
  work("frames");
  codec.join();
  const auto lines = recorded.lines();
  EXPECT_EQ(lines.size(), 4u);
  for (const std::string& line : lines) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
}

}  // namespace
}  // namespace heartmula

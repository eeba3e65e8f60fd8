// Many songs on disk: what is there after all of them, after a part, and after failures.
#include "song/song_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "song/codes_file.h"
#include "song/song_file.h"
#include "song/testing.h"
#include "song/unfinished_songs.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class ManySongFiles : public testing::Test {
 protected:
  SongFileRequest song(const std::string& name, int64_t frames, uint64_t seed) const {
    Request request = short_request(frames);
    request.song.seed = seed;
    request.output.save_path = folder_ / name;
    return {.request = request};
  }
  /// As the song is alone.
  std::string alone(const SongFileRequest& song) const {
    const TemporaryFolder other;
    Request request = song.request;
    request.output.save_path = other / "song.wav";
    make_song_file(request, {}, nullptr);
    return contents(other / "song.wav");
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) names.insert(entry.path().filename().string());
    return names;
  }
  /// Goes on with a list, and returns what it made.
  SongFiles go_on(const fs::path& list) const {
    std::vector<SongFileRequest> requests;
    std::istringstream lines(contents(list));
    for (std::string line; std::getline(lines, line);) {
      SongFileRequest request{.request = parse_request(line, list.string()).request};
      request.request.run.goes_on = true;
      requests.push_back(request);
    }
    return make_song_files(requests, {}, list, {}, nullptr);
  }

  TemporaryFolder folder_;
};

TEST_F(ManySongFiles, are_what_they_are_alone_and_leave_nothing_else) {
  const std::vector<SongFileRequest> requests = {song("a.wav", 9, 1), song("b.wav", 4, 2), song("c.wav", 7, 3)};
  std::vector<size_t> over;
  const SongFiles made = make_song_files(
      requests, 2, {}, {.over = [&](size_t number, const SongFileResult&) { over.push_back(number); }}, nullptr);
  EXPECT_EQ(made.unfinished, "");
  ASSERT_EQ(made.songs.size(), 3u);
  EXPECT_THAT(over, UnorderedElementsAre(0, 1, 2));
  EXPECT_THAT(files(), ElementsAre("a.wav", "a.wav.json", "b.wav", "b.wav.json", "c.wav", "c.wav.json"));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_FALSE(made.songs[i].error);
    EXPECT_EQ(contents(requests[i].request.output.save_path), alone(requests[i]));
    EXPECT_EQ(json::parse(contents(requests[i].request.output.save_path + ".json")), made.songs[i].json);
    EXPECT_EQ(made.songs[i].json["result"]["memory_plan"]["songs_at_once"], 2);
  }
}

TEST_F(ManySongFiles, that_are_cancelled_are_gone_on_with_by_one_list) {
  for (const bool lazy : {false, true}) {
    for (const std::string_view where : {"frames", "codec"}) {
      const TemporaryFolder empty;
      std::vector<SongFileRequest> requests = {song("a.wav", 30, 1), song("b.wav", 25, 2), song("c.wav", 20, 3),
                                               song("d.wav", 20, 4)};
      requests[1].request.output.save_codes = folder_ / "b.codes";
      for (SongFileRequest& request : requests) request.request.machine.lazy_load = lazy;
      CancelToken token;
      const SongFilesHooks hooks = {
          .progress = [&](size_t number, std::string_view stage, int64_t done, int64_t, double) {
            if (stage == where && (where == "codec" || (number == 1 && done == 12))) token.cancel();
          }};
      const SongFiles cancelled = make_song_files(requests, 2, {}, hooks, &token);
      EXPECT_EQ(cancelled.unfinished, (folder_ / "a.wav.unfinished.jsonl").string());
      for (const SongFileResult& result : cancelled.songs) {
        ASSERT_TRUE(result.error);
        EXPECT_EQ(result.error->kind(), ErrorKind::kCancelled);
      }
      EXPECT_THAT(cancelled.songs[1].error->what(), HasSubstr("are in " + (folder_ / "b.codes").string()));
      EXPECT_EQ(cancelled.songs[1].json["result"]["stop_reason"], "cancelled");
      if (where == "frames") {
        EXPECT_EQ(read_codes(folder_ / "b.codes").frames.size(), 12u);
      }

      const SongFiles made = go_on(cancelled.unfinished);
      EXPECT_EQ(made.unfinished, "");
      for (const SongFileRequest& request : requests) {
        EXPECT_EQ(contents(request.request.output.save_path), alone(request)) << where << lazy;
      }
      EXPECT_EQ(read_codes(folder_ / "b.codes").frames.size(), 25u);
      EXPECT_THAT(files(), ElementsAre("a.wav", "a.wav.json", "b.codes", "b.wav", "b.wav.json", "c.wav", "c.wav.json",
                                       "d.wav", "d.wav.json"));
      for (const std::string& name : files()) fs::remove(folder_ / name);
    }
  }
}

TEST_F(ManySongFiles, that_are_cancelled_before_their_first_frames_leave_nothing) {
  CancelToken token;
  const SongFilesHooks hooks = {.load = [&](std::string_view, int64_t, int64_t, double) { token.cancel(); }};
  const SongFiles files_made = make_song_files({song("a.wav", 9, 1), song("b.wav", 9, 2)}, {}, {}, hooks, &token);
  EXPECT_EQ(files_made.unfinished, "");
  EXPECT_STREQ(files_made.songs[1].error->what(), "cancelled");
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(ManySongFiles, the_list_is_on_the_disk_all_the_time) {
  std::vector<size_t> lines;
  std::string in_the_middle;
  const fs::path list = folder_ / "a.wav.unfinished.jsonl";
  const SongFilesHooks hooks = {.progress = [&](size_t number, std::string_view stage, int64_t done, int64_t, double) {
    if (number == 2 && stage == "frames" && done == 2) in_the_middle = contents(list);
  }};
  make_song_files({song("a.wav", 3, 1), song("b.wav", 20, 2), song("c.wav", 5, 3), song("d.wav", 5, 4)}, 2, {}, hooks,
                  nullptr);
  EXPECT_FALSE(fs::exists(list));
  // d has not begun; a may be made by now.
  EXPECT_THAT(in_the_middle, AllOf(HasSubstr("b.wav.codes.safetensors"), HasSubstr("c.wav.codes.safetensors"),
                                   HasSubstr("d.wav\""), testing::Not(HasSubstr("d.wav.codes"))));
}

TEST_F(ManySongFiles, one_that_fails_keeps_its_codes_and_the_others_are_made) {
  std::vector<SongFileRequest> requests = {song("a.wav", 9, 1), song("no/b.wav", 9, 2), song("c.wav", 9, 3),
                                           song("d.wav", 9, 4), song("e.wav", 9, 5)};
  requests[3].request.song.max_audio_length_ms = 100'000 * kFrameMs;
  const SongFilesHooks hooks = {.audio = [](size_t number, std::span<const float>, std::span<const float>) {
    if (number == 2) throw std::runtime_error("the picture broke");
  }};
  const SongFiles made = make_song_files(requests, 2, {}, hooks, nullptr);
  EXPECT_FALSE(made.songs[0].error);
  EXPECT_FALSE(made.songs[4].error);
  EXPECT_EQ(made.songs[1].error->kind(), ErrorKind::kUser);
  EXPECT_THAT(made.songs[3].error->what(), HasSubstr("context"));
  EXPECT_EQ(made.songs[2].error->kind(), ErrorKind::kFailure);
  EXPECT_THAT(made.songs[2].error->what(), AllOf(HasSubstr("the picture broke; 9 frames"), HasSubstr("c.wav.codes")));
  EXPECT_THAT(files(), ElementsAre("a.wav", "a.wav.json", "a.wav.unfinished.jsonl", "c.wav.codes.safetensors", "e.wav",
                                   "e.wav.json"));
  // What cannot be made is not among those to go on with.
  EXPECT_EQ(go_on(made.unfinished).songs.size(), 1u);
  EXPECT_EQ(contents(folder_ / "c.wav"), alone(requests[2]));
  EXPECT_THAT(files(), ElementsAre("a.wav", "a.wav.json", "c.wav", "c.wav.json", "e.wav", "e.wav.json"));
}

TEST_F(ManySongFiles, a_list_of_an_earlier_run_is_not_written_over) {
  folder_.write("a.wav.unfinished.jsonl", "{}\n");
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { make_song_files({song("a.wav", 9, 1)}, {}, {}, {}, nullptr); }),
              AllOf(HasSubstr("a.wav.unfinished.jsonl"), HasSubstr("--requests")));
  EXPECT_EQ(contents(folder_ / "a.wav.unfinished.jsonl"), "{}\n");
  EXPECT_TRUE(is_unfinished_list(folder_ / "a.wav.unfinished.jsonl"));
  EXPECT_FALSE(is_unfinished_list(folder_ / "requests.jsonl"));
}

}  // namespace
}  // namespace heartmula

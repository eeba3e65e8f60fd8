// Songs on disk: what is there after the whole, after a part, and after a failure.
#include "song/song_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "song/codes_file.h"
#include "song/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kSongFrames = 7;

class SongFile : public testing::Test {
 protected:
  SongFile() : request_(short_request(kSongFrames)) {
    request_.output.save_path = folder_ / "song.wav";
    request_.output.sample_format = SampleFormat::kF32;
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  json sidecar() const { return json::parse(contents(folder_ / "song.wav.json")); }
  json make(const Request& request) const { return make_song_file(request, {}, nullptr); }

  /// Cancels after `frames` frames, or (0) in the codec; returns the message.
  std::string cancel(const Request& request, int64_t frames, json* reported = nullptr) const {
    CancelToken token;
    const SongFileHooks hooks = {
        .progress =
            [&](std::string_view stage, int64_t done, int64_t, double) {
              if (frames > 0 ? stage == "frames" && done == frames : stage == "codec") token.cancel();
            },
        .plan = {},
        .cancelled =
            [&](const json& about) {
              if (reported != nullptr) *reported = about;
            },
    };
    return error_of(ErrorKind::kCancelled, [&] { make_song_file(request, hooks, &token); });
  }

  TemporaryFolder folder_;
  Request request_;
};

/// What `heartmula generate --load_codes PATH --save_path ...` asks for, as the message says.
Request going_on(const fs::path& codes) {
  Request request = parse_request(read_codes(codes).origin.request_json, codes.string()).request;
  request.song.load_codes = codes.string();
  return request;
}

TEST_F(SongFile, a_finished_song_leaves_itself_and_its_sidecar) {
  const json made = make(request_);
  EXPECT_THAT(files(), ElementsAre("song.wav", "song.wav.json"));
  EXPECT_EQ(sidecar(), made);
  const json& result = made["result"];
  EXPECT_EQ(result["frames"], kSongFrames);
  EXPECT_EQ(result["stop_reason"], "length");
  EXPECT_DOUBLE_EQ(result["duration_s"], kSongFrames * 0.08);
  EXPECT_GT(result["sample_peak"], 0);
  EXPECT_GT(result["rms"], 0);
  EXPECT_GT(result["peak_memory_bytes"], 1'000'000);
  EXPECT_GT(result["memory_plan"]["peak_bytes"], 1'000'000);
  for (const char* stage : {"load", "frames", "codec", "total"}) EXPECT_GT(result["seconds"][stage], 0) << stage;
  for (const char* stage : {"frames", "codec", "total"}) EXPECT_GT(result["real_time_factor"][stage], 0) << stage;
  EXPECT_TRUE(result["warnings"].is_array());
}

TEST_F(SongFile, a_seed_that_was_not_given_is_chosen_and_stored) {
  request_.song.seed.reset();
  const json first = make(request_);
  const std::string song = contents(request_.output.save_path);
  const json second = make(request_);
  EXPECT_NE(first["request"]["seed"], second["request"]["seed"]);
  EXPECT_EQ(make(parse_request(first.dump(), "sidecar").request)["request"], first["request"]);
  EXPECT_EQ(contents(request_.output.save_path), song);
}

TEST_F(SongFile, a_song_cancelled_at_any_frame_and_continued_is_the_same_file) {
  make(request_);
  const std::string song = contents(request_.output.save_path);
  const json whole = sidecar();
  for (int64_t frames = 1; frames <= kSongFrames; ++frames) {
    fs::remove(request_.output.save_path);
    fs::remove(folder_ / "song.wav.json");
    const std::string message = cancel(request_, frames);
    const fs::path codes = request_.output.save_path + ".codes.safetensors";
    ASSERT_THAT(files(), ElementsAre("song.wav.codes.safetensors", "song.wav.json")) << message;
    EXPECT_THAT(message,
                AllOf(HasSubstr(std::to_string(frames) + " frames"), HasSubstr("--load_codes " + codes.string()),
                      HasSubstr("heartmula decode " + codes.string())));
    EXPECT_EQ(static_cast<int64_t>(read_codes(codes).frames.size()), frames);
    make(going_on(codes));
    EXPECT_EQ(contents(request_.output.save_path), song) << "cancelled after " << frames << " frames";
    EXPECT_EQ(sidecar()["request"], whole["request"]);
    EXPECT_EQ(sidecar()["result"]["frames"], kSongFrames);
    EXPECT_THAT(files(), ElementsAre("song.wav", "song.wav.json"));
  }
}

TEST_F(SongFile, a_song_cancelled_again_and_again_is_the_same_file) {
  make(request_);
  const std::string song = contents(request_.output.save_path);
  const fs::path codes = request_.output.save_path + ".codes.safetensors";
  cancel(request_, 2);
  cancel(going_on(codes), 4);
  cancel(going_on(codes), 0);
  EXPECT_EQ(static_cast<int64_t>(read_codes(codes).frames.size()), kSongFrames);
  cancel(going_on(codes), 0);  // there is no new frame this time
  make(going_on(codes));
  EXPECT_EQ(contents(request_.output.save_path), song);
  EXPECT_THAT(files(), ElementsAre("song.wav", "song.wav.json"));
}

TEST_F(SongFile, a_cancelled_song_says_so_beside_its_codes) {
  for (const bool lazy : {false, true}) {
    fs::remove(request_.output.save_path + ".codes.safetensors");
    request_.machine.lazy_load = lazy;
    json reported;
    cancel(request_, 0, &reported);
    EXPECT_THAT(files(), ElementsAre("song.wav.codes.safetensors", "song.wav.json"));
    EXPECT_EQ(sidecar(), reported);
    const json& result = reported["result"];
    EXPECT_EQ(result["stop_reason"], "cancelled");
    EXPECT_EQ(result["frames"], kSongFrames);
    EXPECT_DOUBLE_EQ(result["duration_s"], kSongFrames * 0.08);
    EXPECT_EQ(result["codes"], request_.output.save_path + ".codes.safetensors");
    EXPECT_EQ(reported["request"], to_json(request_));
  }
}

TEST_F(SongFile, a_cancelled_song_leaves_an_earlier_one_and_its_sidecar_alone) {
  make(request_);
  const std::string song = contents(request_.output.save_path);
  const std::string about = contents(folder_ / "song.wav.json");
  json reported;
  cancel(request_, 3, &reported);
  EXPECT_EQ(reported["result"]["stop_reason"], "cancelled");
  EXPECT_EQ(contents(request_.output.save_path), song);
  EXPECT_EQ(contents(folder_ / "song.wav.json"), about);
}

TEST_F(SongFile, a_song_cancelled_before_its_first_frame_leaves_nothing) {
  CancelToken token;
  const SongFileHooks hooks = {.progress = [&](std::string_view stage, int64_t, int64_t, double) {
    if (stage == "load") token.cancel();
  }};
  EXPECT_EQ(error_of(ErrorKind::kCancelled, [&] { make_song_file(request_, hooks, &token); }), "cancelled");
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(SongFile, saved_codes_stay_and_make_the_same_samples) {
  request_.output.save_codes = folder_ / "codes";
  const json made = make(request_);
  const std::string song = contents(request_.output.save_path);
  EXPECT_THAT(files(), ElementsAre("codes", "song.wav", "song.wav.json"));

  Request decode = going_on(request_.output.save_codes);
  const json decoded = decode_song_file(decode, {}, nullptr);
  const size_t header = 200;  // and more than its end: what follows are samples
  const size_t samples = 8 * 3840 * kSongFrames - header;
  EXPECT_EQ(contents(request_.output.save_path).substr(header, samples), song.substr(header, samples));
  EXPECT_EQ(decoded["result"]["sample_peak"], made["result"]["sample_peak"]);
  EXPECT_EQ(decoded["result"]["rms"], made["result"]["rms"]);

  // The decoded song's sidecar makes it again, too.
  const json again = make(parse_request(decoded.dump(), "sidecar").request);
  EXPECT_EQ(again["result"]["frames"], kSongFrames);
  EXPECT_EQ(again["result"]["rms"], made["result"]["rms"]);
  EXPECT_TRUE(fs::exists(request_.output.save_codes));
}

TEST_F(SongFile, going_on_with_another_seed_keeps_the_beginning_alone) {
  request_.output.save_codes = folder_ / "codes";
  make(request_);
  const std::vector<Frame> frames = read_codes(request_.output.save_codes).frames;
  Request other = going_on(request_.output.save_codes);
  other.song.continue_from_ms = 3 * kFrameMs + 79;
  other.song.seed = 99;
  other.output.save_codes = folder_ / "other codes";
  make(other);
  const std::vector<Frame> continued = read_codes(other.output.save_codes).frames;
  ASSERT_EQ(continued.size(), frames.size());
  EXPECT_TRUE(std::equal(frames.begin(), frames.begin() + 3, continued.begin()));
  EXPECT_NE(continued, frames);

  const std::string song = contents(other.output.save_path);
  make(parse_request(contents(folder_ / "song.wav.json"), "sidecar").request);
  EXPECT_EQ(contents(other.output.save_path), song);
}

TEST_F(SongFile, codes_that_the_model_does_not_know_are_refused) {
  CodesWriter writer(folder_ / "codes", CodesOrigin{to_json(request_).dump(), "", ""});
  writer.append({0, 1, 2, 3, 4, 5, 6, 69});
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { make(going_on(folder_ / "codes")); }),
              AllOf(HasSubstr("codes: frame 0 holds code 69"), HasSubstr("0 to 68")));
  EXPECT_THAT(files(), ElementsAre("codes"));
}

TEST_F(SongFile, a_tokenizer_of_another_checkpoint_is_refused) {
  TemporaryFolder checkpoint;
  for (const auto& entry : fs::directory_iterator(endless_checkpoint())) {
    if (entry.path().filename() != "gen_config.json") {
      fs::create_symlink(fs::canonical(entry.path()), checkpoint / entry.path().filename().string());
    }
  }
  json gen = json::parse(contents(kTiny / "gen_config.json"));
  gen["text_eos_id"] = 544;
  checkpoint.write("gen_config.json", gen.dump());
  request_.checkpoint.model_path = checkpoint.path().string();
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { make(request_); }),
              AllOf(HasSubstr("text_eos_id is 544"), HasSubstr("543")));
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(SongFile, a_song_that_fails_keeps_its_codes_and_an_earlier_song) {
  make(request_);
  const std::string song = contents(request_.output.save_path);
  for (const std::string_view stage : {"frames", "codec"}) {
    fs::remove(request_.output.save_path + ".codes.safetensors");
    const SongFileHooks hooks = {.progress = [&](std::string_view name, int64_t, int64_t, double) {
      if (name == stage) throw std::runtime_error("the progress bar broke");
    }};
    const std::string message = error_of(ErrorKind::kFailure, [&] { make_song_file(request_, hooks, nullptr); });
    EXPECT_THAT(message, AllOf(HasSubstr("the progress bar broke; "), HasSubstr("--load_codes")));
    EXPECT_THAT(files(), ElementsAre("song.wav", "song.wav.codes.safetensors", "song.wav.json"));
    EXPECT_EQ(contents(request_.output.save_path), song);
  }
}

TEST_F(SongFile, the_plan_comes_before_anything_is_loaded) {
  std::vector<std::string> events;
  const SongFileHooks hooks = {
      .progress = [&](std::string_view stage, int64_t, int64_t, double) { events.emplace_back(stage); },
      .plan = [&](const std::string& text) { events.push_back(text.substr(0, 11)); },
      .cancelled = {},
  };
  make_song_file(request_, hooks, nullptr);
  ASSERT_GT(events.size(), 3u);
  EXPECT_EQ(events[0], "memory plan");
  EXPECT_EQ(events[1], "load");
  EXPECT_EQ(std::count(events.begin(), events.end(), "frames"), kSongFrames);
  EXPECT_EQ(events.back(), "codec");
}

TEST_F(SongFile, a_pipe_that_nobody_reads_does_not_hold_a_cancelled_song) {
  for (const bool lazy : {false, true}) {
    const fs::path pipe = folder_ / ("pipe" + std::to_string(lazy));
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
    ASSERT_GE(reader, 0);
    Request request = request_;
    request.machine.lazy_load = lazy;
    request.output.save_path = pipe;
    request.output.format = AudioFormat::kWav;
    request.output.save_codes = folder_ / "codes";
    CancelToken token;
    std::thread user([&] {
      // Until the pipe is full: 64 KB of a song of 215 KB.
      char byte = 0;
      while (::read(reader, &byte, 1) != 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      token.cancel();
    });
    const auto begin = std::chrono::steady_clock::now();
    error_of(ErrorKind::kCancelled, [&] { make_song_file(request, {}, &token); });
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60));
    user.join();
    ::close(reader);
    EXPECT_EQ(static_cast<int64_t>(read_codes(request.output.save_codes).frames.size()), kSongFrames);
  }
}

}  // namespace
}  // namespace heartmula

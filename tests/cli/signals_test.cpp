// Ctrl-C and SIGTERM, wherever they come: the right exit code, soon; the codes are kept, and nothing half-written.
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// A second after the signal the program is gone. On a busy machine it waits for a processor, so what counts is the
/// time of processors that it still takes (milliseconds; what is interrupted would take many seconds, `convert` one).
/// The clock only tells that it hangs.
constexpr std::chrono::seconds kSoon{1};
constexpr std::chrono::seconds kHanging{30};
const std::string kEndless = "600000";  // ms of song

/// The process is told to stop once `there`, and ends soon.
Finished interrupted(Process& process, int signal, const std::function<bool()>& there) {
  EXPECT_TRUE(process.wait_until(there)) << "it ended too early: " << process.err();
  const Process::Clock::time_point begin = Process::Clock::now();
  process.send(signal);
  const std::optional<std::chrono::nanoseconds> cpu_time = process.cpu_time();
  Finished finished = process.wait();
  EXPECT_LT(Process::Clock::now() - begin, kHanging);
  if (cpu_time) {  // else it was gone at once
    EXPECT_LT(finished.cpu_time - *cpu_time, kSoon);
  }
  return finished;
}

bool stage_begun(const Process& process, const std::string& stage) {
  return process.err().find("{\"stage\":\"" + stage + "\"") != std::string::npos;
}

Arguments endless_song(const fs::path& song, const Arguments& more = {}) {
  return generate(song, Arguments{"--model_path", endless_checkpoint(), "--progress", "json"} + more);
}

int64_t frames_in(const fs::path& codes) {
  return json::parse(succeeds({"inspect", "--json", codes}).out)["frames"].get<int64_t>();
}

/// SIGINT: 130, SIGTERM: 143.
class Signals : public testing::TestWithParam<int> {
 protected:
  int exit_code() const { return 128 + GetParam(); }
  TemporaryFolder folder_;
  const fs::path song_ = folder_ / "song.wav";
  const fs::path codes_ = folder_ / "song.wav.codes.safetensors";
};

TEST_P(Signals, in_the_frames_keep_those_that_are_made) {
  Process process(program(endless_song(song_, {"--max_audio_length_ms", kEndless})));
  const Finished finished = interrupted(process, GetParam(), [&] { return fs::exists(codes_); });
  EXPECT_EQ(finished.exit_code, exit_code()) << finished.err;
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(files_in(folder_.path()), ElementsAre("song.wav.codes.safetensors", "song.wav.json"));
  const int64_t frames = frames_in(codes_);
  EXPECT_THAT(complaint(finished), AllOf(HasSubstr("cancelled; " + std::to_string(frames) + " frames"),
                                         HasSubstr("are in " + codes_.string()),
                                         HasSubstr("heartmula generate --load_codes " + codes_.string()),
                                         HasSubstr("heartmula decode " + codes_.string())));
  const json result = json_of(song_.string() + ".json")["result"];
  EXPECT_EQ(result["stop_reason"], "cancelled");
  EXPECT_EQ(result["frames"], frames);
}

TEST_P(Signals, in_the_codec_keep_the_frames_from_which_the_same_song_can_be_made) {
  succeeds(endless_song(song_));
  const std::string expected = contents(song_);
  fs::remove(song_);
  fs::remove(song_.string() + ".json");
  for (const std::string lazy : {"false", "true"}) {
    fs::remove(codes_);
    Process process(program(endless_song(song_, {"--codec_steps", "1000", "--lazy_load", lazy})));
    const Finished finished = interrupted(process, GetParam(), [&] { return stage_begun(process, "codec"); });
    EXPECT_EQ(finished.exit_code, exit_code()) << finished.err;
    EXPECT_THAT(files_in(folder_.path()), ElementsAre("song.wav.codes.safetensors", "song.wav.json"));
    EXPECT_EQ(frames_in(codes_), 11);
  }
  succeeds({"generate", "--load_codes", codes_, "--save_path", song_, "--codec_steps", "1"});
  EXPECT_EQ(contents(song_), expected);
  EXPECT_THAT(files_in(folder_.path()), ElementsAre("song.wav", "song.wav.json"));
}

/// A checkpoint whose language model takes a while to load: large layers of zeros, which take no room on the disk.
std::string bulky_checkpoint(const TemporaryFolder& folder) {
  static constexpr int64_t kMlp = 262'144;
  const std::string copy = copy_of_checkpoint(folder);
  edit_json(fs::path(copy) / kLmFolder / "config.json",
            [](json& config) { config["backbone"]["intermediate_dim"] = kMlp; });
  const fs::path weights = fs::path(copy) / kLmFolder / "model.safetensors";
  int64_t end = 0;
  edit_header(weights, [&](json& header) {
    for (const auto& item : header.items()) {
      if (item.key() != "__metadata__") end = std::max(end, item.value()["data_offsets"][1].get<int64_t>());
    }
    const int64_t before = end;
    json left_behind = json::object();  // nobody's, but a file has no gaps
    for (auto& item : header.items()) {
      const bool wide = item.key().ends_with("mlp.w2.weight");
      if (!item.key().starts_with("backbone.") || item.key().find(".mlp.w") == std::string::npos) continue;
      left_behind["unused." + item.key()] = item.value();
      item.value()["shape"] = wide ? json({64, kMlp}) : json({kMlp, 64});
      item.value()["data_offsets"] = {end, end + 4 * 64 * kMlp};
      end += 4 * 64 * kMlp;
    }
    header.update(left_behind);
    end -= before;
  });
  fs::resize_file(weights, fs::file_size(weights) + static_cast<uintmax_t>(end));
  std::fstream file(weights, std::ios::binary | std::ios::in | std::ios::out);
  for (int64_t begin = 0; begin < end; begin += 4 * 64 * kMlp) {  // all zeros would be a broken download
    const float one = 1;
    file.seekp(begin - end, std::ios::end);
    file.write(reinterpret_cast<const char*>(&one), sizeof(one));
  }
  return copy;
}

TEST_P(Signals, while_the_models_are_loaded_leave_nothing) {
  const TemporaryFolder checkpoint;
  Process process(program(endless_song(song_, {"--model_path", bulky_checkpoint(checkpoint)})));
  const Finished finished = interrupted(process, GetParam(), [&] { return stage_begun(process, "load"); });
  EXPECT_EQ(finished.exit_code, exit_code()) << finished.err;
  EXPECT_EQ(complaint(finished), "cancelled");
  EXPECT_THAT(files_in(folder_.path()), IsEmpty());
}

TEST_P(Signals, in_convert_leave_nothing) {
  const TemporaryFolder checkpoint;
  Process process(program({"convert", "--model_path", bulky_checkpoint(checkpoint), "--save_path", folder_ / "packed",
                           "--progress", "none"}));
  const Finished finished = interrupted(process, GetParam(), [&] { return !files_in(folder_.path()).empty(); });
  EXPECT_EQ(finished.exit_code, exit_code()) << finished.err;
  EXPECT_EQ(complaint(finished), "cancelled");
  EXPECT_THAT(files_in(folder_.path()), IsEmpty());
}

TEST_P(Signals, in_decode_leave_the_codes_alone) {
  succeeds(endless_song(song_, {"--save_codes", codes_}));
  const std::string codes = contents(codes_);
  Process process(
      program({"decode", codes_, "--save_path", folder_ / "other.wav", "--codec_steps", "1000", "--progress", "json"}));
  const Finished finished = interrupted(process, GetParam(), [&] { return stage_begun(process, "codec"); });
  EXPECT_EQ(finished.exit_code, exit_code()) << finished.err;
  EXPECT_EQ(contents(codes_), codes);
  EXPECT_THAT(files_in(folder_.path()), ElementsAre("song.wav", "song.wav.codes.safetensors", "song.wav.json"));
}

TEST_P(Signals, end_the_wait_for_the_reader_of_a_pipe) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const Arguments out = {"--save_path", pipe, "--format", "wav", "--sample_format", "f32", "--save_codes", codes_};
  {  // that never comes
    Process process(program(endless_song(song_, out)));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const Finished finished = interrupted(process, GetParam(), [] { return true; });
    if (finished.signal == 0) {  // else it had not even begun
      EXPECT_EQ(finished.exit_code, exit_code()) << finished.err;
    }
    EXPECT_THAT(files_in(folder_.path()), ElementsAre("pipe"));
  }
  {  // that stops reading
    const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
    ASSERT_GE(reader, 0);
    Process process(program(endless_song(song_, out)));
    const Finished finished = interrupted(process, GetParam(), [&] {
      int waiting = 0;
      return ::ioctl(reader, FIONREAD, &waiting) == 0 && waiting > (60 << 10);
    });
    ::close(reader);
    EXPECT_EQ(finished.exit_code, exit_code()) << finished.err;
    EXPECT_THAT(complaint(finished), HasSubstr("cancelled; 11 frames"));
    EXPECT_THAT(files_in(folder_.path()), ElementsAre("pipe", "song.wav.codes.safetensors"));
  }
}

TEST_P(Signals, end_what_looks_at_no_token) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int writer = ::open(pipe.c_str(), O_RDWR | O_NONBLOCK);
  Process process(program({"tokenize", "--model_path", kTinyCheckpoint, "--jsonl", pipe}));
  const Finished finished = interrupted(process, GetParam(), [&] {
    int waiting = 0;  // until the line has been read
    static const bool written = ::write(writer, "\"la\"\n", 5) == 5;
    return written && ::ioctl(writer, FIONREAD, &waiting) == 0 && waiting == 0;
  });
  ::close(writer);
  EXPECT_EQ(finished.signal, GetParam());
}

TEST_P(Signals, are_told_in_json_to_programs) {
  Process process(program(endless_song(song_, {"--max_audio_length_ms", kEndless, "--json"})));
  const Finished finished = interrupted(process, GetParam(), [&] { return fs::exists(codes_); });
  EXPECT_EQ(finished.exit_code, exit_code());
  const json told = json::parse(finished.out);
  EXPECT_EQ(told["result"]["stop_reason"], "cancelled");
  EXPECT_EQ(told["result"]["codes"], codes_.string());
  EXPECT_EQ(told, json_of(song_.string() + ".json"));
}

TEST_P(Signals, leave_an_earlier_song_as_it_was) {
  succeeds(endless_song(song_));
  const std::string song = contents(song_);
  const std::string sidecar = contents(song_.string() + ".json");
  Process process(program(endless_song(song_, {"--max_audio_length_ms", kEndless})));
  const Finished finished = interrupted(process, GetParam(), [&] { return fs::exists(codes_); });
  EXPECT_EQ(finished.exit_code, exit_code());
  EXPECT_EQ(contents(song_), song);
  EXPECT_EQ(contents(song_.string() + ".json"), sidecar);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Signals, testing::Values(SIGINT, SIGTERM),
                         [](const auto& kind) { return kind.param == SIGINT ? "ctrl_c" : "sigterm"; });

TEST(Signals, of_a_closed_terminal_and_of_the_impatient_keep_the_codes) {
  const TemporaryFolder folder;
  const fs::path song = folder / "song.wav";
  const fs::path codes = folder / "song.wav.codes.safetensors";
  for (const auto& [signal, times] : {std::pair(SIGHUP, 1), std::pair(SIGINT, 3)}) {
    Process process(program(endless_song(song, {"--max_audio_length_ms", kEndless})));
    ASSERT_TRUE(process.wait_until([&] { return fs::exists(codes); })) << process.err();
    for (int i = 0; i < times; ++i) process.send(signal);
    const Finished finished = process.wait();
    EXPECT_EQ(finished.exit_code, 128 + signal) << finished.err;
    EXPECT_THAT(complaint(finished), HasSubstr("heartmula generate --load_codes"));
    EXPECT_THAT(files_in(folder.path()), ElementsAre("song.wav.codes.safetensors", "song.wav.json"));
    fs::remove(codes);
  }
}

TEST(Signals, of_a_checkpoint_that_is_cut_short_become_a_message) {
  const TemporaryFolder folder;
  const TemporaryFolder parts;
  const std::string checkpoint = copy_of_checkpoint(parts);
  // Its embeddings are read from the file for every frame.
  Process process(program(generate(folder / "song.wav", {"--model_path", checkpoint, "--max_audio_length_ms", kEndless,
                                                         "--progress", "json", "--temperature", "100"})));
  ASSERT_TRUE(process.wait_until([&] { return stage_begun(process, "load"); })) << process.err();
  fs::resize_file(fs::path(checkpoint) / kLmFolder / "model.safetensors", 1000);
  const Finished finished = process.wait();
  if (finished.exit_code == 0) GTEST_SKIP() << "the song was over before";
  EXPECT_EQ(finished.signal, 0);
  EXPECT_THAT(finished.exit_code, testing::AnyOf(1, 2)) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("heartmula: "));
}

TEST(Rescued, codes_of_an_earlier_run_are_kept) {
  const TemporaryFolder folder;
  const fs::path song = folder / "song.wav";
  const fs::path codes = folder / "song.wav.codes.safetensors";
  succeeds(endless_song(song, {"--save_codes", codes}));
  const std::string rescued = contents(codes);
  const Finished finished = succeeds(endless_song(song, {"--seed", "5", "--progress", "lines"}));
  EXPECT_THAT(finished.err, HasSubstr("kept as " + (folder / "song.wav.codes.1.safetensors").string()));
  EXPECT_EQ(contents(folder / "song.wav.codes.1.safetensors"), rescued);
  EXPECT_THAT(files_in(folder.path()), ElementsAre("song.wav", "song.wav.codes.1.safetensors", "song.wav.json"));
}

TEST(ProgressThatNobodyReads, does_not_end_the_song) {
  const TemporaryFolder folder;
  std::string command;
  for (const std::string& word : endless_song("song.wav")) command += " '" + word + "'";
  for (const std::string dead : {"2>/dev/full", "2> >(true)", "<&- >&- 2>&-"}) {
    const Finished finished = run_script("heartmula" + command + " " + dead, folder.path());
    EXPECT_EQ(finished.exit_code, 0) << dead;
    EXPECT_TRUE(fs::remove(folder / "song.wav")) << dead;
  }
}

TEST(Limits, of_the_size_of_files_are_a_full_disk) {
  const TemporaryFolder folder;
  std::string command;
  for (const std::string& word : endless_song("song.wav")) command += " '" + word + "'";
  const Finished finished = run_script("ulimit -f 100; heartmula" + command, folder.path());
  EXPECT_EQ(finished.exit_code, 1) << finished.err;
  EXPECT_THAT(complaint(finished), HasSubstr("heartmula decode song.wav.codes.safetensors"));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("song.wav.codes.safetensors"));
}

TEST(Continuation, after_any_number_of_interruptions_is_the_same_song) {
  const TemporaryFolder folder;
  const fs::path song = folder / "song.wav";
  const fs::path codes = folder / "song.wav.codes.safetensors";
  const Arguments length = {"--max_audio_length_ms", "24000"};
  succeeds(endless_song(song, length));
  const std::string expected = contents(song);
  fs::remove(song);

  int64_t frames = 0;
  for (int round = 0; round < 3; ++round) {
    const Arguments begin = endless_song(song, length);
    const Arguments go_on = {"generate", "--load_codes", codes, "--save_path", song, "--progress", "json"};
    Process process(program(round == 0 ? begin : go_on));
    process.wait_until([&] { return stage_begun(process, "frames"); });
    process.send(SIGINT);
    const Finished finished = process.wait();
    if (finished.exit_code == 0) break;  // it was over before the signal came
    EXPECT_EQ(finished.exit_code, 130) << finished.err;
    EXPECT_GE(frames_in(codes), frames);
    frames = frames_in(codes);
    EXPECT_GT(frames, 0);
  }
  if (fs::exists(codes)) succeeds({"generate", "--load_codes", codes, "--save_path", song});
  EXPECT_EQ(contents(song), expected);
}

}  // namespace
}  // namespace heartmula

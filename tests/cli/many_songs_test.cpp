// generate for more than one song: names, seeds, requests by the line, what fails, what is interrupted and gone on
// with.
#include <sys/stat.h>

#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

Arguments songs(const fs::path& save_path, const std::string& count, const Arguments& more = {}) {
  return generate(save_path, Arguments{"--songs", count} + more);
}

/// The last line, without looking for others: several songs may have failed.
std::string last_line(const Finished& finished) {
  const std::vector<std::string> lines = lines_of(finished.err);
  return lines.empty() ? "" : lines.back();
}

std::string alone(const std::string& seed, const std::string& name = "song.wav", const Arguments& more = {}) {
  const TemporaryFolder folder;
  succeeds(generate(folder / name, Arguments{"--seed", seed} + more));
  return contents(folder / name);
}

TEST(Variations, have_numbers_and_seeds_one_after_the_other) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(songs(folder / "song.wav", "3", {"--seed", "18446744073709551613"}));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("song-1.wav", "song-1.wav.json", "song-2.wav", "song-2.wav.json",
                                                   "song-3.wav", "song-3.wav.json"));
  EXPECT_EQ(contents(folder / "song-1.wav"), alone("18446744073709551613"));
  EXPECT_EQ(contents(folder / "song-3.wav"), alone("18446744073709551615"));
  EXPECT_EQ(json_of(folder / "song-2.wav.json")["request"]["seed"], 18446744073709551614u);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("3 songs at once"), HasSubstr("song-2.wav: "), HasSubstr("songs 3/3"),
                                  HasSubstr("3 of 3 songs made: ")));
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(refused(songs(folder / "song.wav", "4", {"--seed", "18446744073709551613"}), 2), HasSubstr("--seed"));
}

TEST(Variations, go_where_the_pattern_says) {
  const TemporaryFolder folder;
  succeeds(songs(folder / "{seed}-of-{n}.wav", "2",
                 {"--save_codes", folder / "codes-{n}", "--spectrogram", folder / "{n}.png", "--songs_at_once", "1"}));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("1-of-1.wav", "1-of-1.wav.json", "1.png", "2-of-2.wav",
                                                   "2-of-2.wav.json", "2.png", "codes-1", "codes-2"));
  // A single song is called what it was called.
  succeeds(songs(folder / "{n}.wav", "1"));
  EXPECT_TRUE(fs::exists(folder / "{n}.wav"));
}

TEST(Variations, without_a_name_write_over_nothing) {
  const TemporaryFolder folder;
  folder.write("output-2.mp3", "mine");
  Arguments flags = song_flags() + Arguments{"--songs", "2"};
  flags.insert(flags.begin(), "generate");
  succeeds(flags, folder.path().string());
  EXPECT_EQ(contents(folder / "output-2.mp3"), "mine");
  EXPECT_THAT(files_in(folder.path()), ElementsAre("output-1.mp3", "output-1.mp3.json", "output-2-1.mp3",
                                                   "output-2-1.mp3.json", "output-2.mp3"));
}

TEST(Variations, go_on_from_one_beginning) {
  const TemporaryFolder folder;
  succeeds(generate(folder / "first.wav", {"--save_codes", folder / "codes", "--model_path", endless_checkpoint()}));
  const std::string codes = contents(folder / "codes");
  const Arguments flags = {"generate",           "--load_codes", folder / "codes",
                           "--continue_from_ms", "400",          "--save_path",
                           folder / "other.wav", "--seed",       "5"};
  succeeds(flags + Arguments{"--songs", "2"});
  const std::string second = contents(folder / "other-2.wav");
  succeeds(flags + Arguments{"--seed", "6"});
  EXPECT_EQ(contents(folder / "other.wav"), second);
  EXPECT_EQ(contents(folder / "codes"), codes);
  const Finished piped = run_script(
      "cat codes | heartmula generate --load_codes - --continue_from_ms 400 --save_path piped.wav --seed 5 --songs 2",
      folder.path());
  EXPECT_EQ(piped.exit_code, 0) << piped.err;
  EXPECT_EQ(contents(folder / "piped-2.wav").substr(44, 40000), second.substr(44, 40000));
}

TEST(Variations, take_turns_where_memory_is_short) {
  const Arguments flags = {"--ignore_eos", "--max_audio_length_ms", "25000", "--codec_steps", "1"};
  const TemporaryFolder folder;
  const TemporaryFolder swap;
  const Finished finished = succeeds(songs(folder / "song.wav", "4",
                                           flags + Arguments{"--songs_at_once", "4", "--kv_memory_mb", "1", "--kv_swap",
                                                             swap.path().string(), "--progress", "json"}));
  EXPECT_THAT(finished.err, HasSubstr(R"("stage":"resting")"));
  EXPECT_EQ(contents(folder / "song-4.wav"), alone("4", "song.wav", flags));
  EXPECT_FALSE(json_of(folder / "song-1.wav.json")["result"].contains("rests"));
  int64_t rests = 0;
  for (const char* name : {"song-2.wav.json", "song-3.wav.json", "song-4.wav.json"}) {
    rests += json_of(folder / name)["result"].value("rests", 0);
  }
  EXPECT_GT(rests, 0);
  EXPECT_THAT(files_in(swap.path()), IsEmpty());
  EXPECT_THAT(refused(generate("x.wav", {"--kv_swap", "/nowhere"}), 2), HasSubstr("--kv_swap /nowhere"));
  EXPECT_THAT(refused(generate("x.wav", {"--kv_memory_mb", "0"}), 2), HasSubstr("--kv_memory_mb"));
}

TEST(Variations, that_cannot_be_are_refused_in_one_line) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  EXPECT_THAT(refused(songs("-", "2", {"--format", "wav"}), 2, here), HasSubstr("--save_path"));
  EXPECT_THAT(refused(songs("/dev/stdout", "2", {"--format", "wav"}), 2, here), HasSubstr("one stream"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(refused(songs(folder / "pipe", "2", {"--format", "wav"}), 2, here), HasSubstr("one stream"));
  EXPECT_THAT(refused(songs("x.wav", "0"), 2, here), HasSubstr("--songs"));
  EXPECT_THAT(refused(songs("x.wav", "two"), 2, here), HasSubstr("--songs"));
  EXPECT_THAT(refused(songs("x.wav", "2", {"--songs_at_once", "0"}), 2, here), HasSubstr("--songs_at_once"));
  EXPECT_THAT(refused(songs("x.wav", "2", {"--topk", "0"}), 2, here), HasSubstr("--topk"));
  EXPECT_THAT(refused(songs("x.wav", "2", {"--save_codes", "x-{n}.wav", "--save_path", "x-{n}.wav"}), 2, here),
              HasSubstr("are the same file"));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("pipe"));
}

TEST(Variations, are_told_in_json) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(songs(folder / "song.wav", "3", {"--json", "--progress", "json"}));
  const json told = json::parse(finished.out);
  ASSERT_EQ(told.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(told[i], json_of(folder / ("song-" + std::to_string(i + 1) + ".wav.json")));
  }
  std::set<int> heard;
  for (const std::string& line : lines_of(finished.err)) {
    const json event = json::parse(line);
    if (event.contains("song") && event["stage"] == "frames") heard.insert(event["song"].get<int>());
  }
  EXPECT_THAT(heard, ElementsAre(1, 2, 3));
  // A single song has no number.
  EXPECT_THAT(succeeds(generate(folder / "one.wav", {"--progress", "json"})).err, Not(HasSubstr("\"song\"")));
}

/// What each song of a file of requests takes from the flags.
Arguments requests_flags(const std::string& file) {
  return {
      "generate", "--model_path", kTinyCheckpoint, "--requests", file, "--codec_steps", "1", "--codec_guidance_scale",
      "1"};
}

TEST(Requests, are_a_song_a_line) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  folder.write("songs.jsonl",
               R"({"lyrics": "[verse]\nla la", "tags": "piano,happy", "seed": 1, "max_audio_length_ms": 800, )"
               R"("save_path": "own.wav"}

{"lyrics": "", "tags": "rock", "seed": 2, "max_audio_length_ms": 400, "save_codes": "kept"}
  {"lyrics": "la", "tags": "x", "seed": 3, "max_audio_length_ms": 400})");
  const Finished finished =
      succeeds(requests_flags("songs.jsonl") + Arguments{"--save_path", "song.wav", "--json"}, here);
  EXPECT_THAT(files_in(folder.path()), ElementsAre("kept", "own.wav", "own.wav.json", "song-2.wav", "song-2.wav.json",
                                                   "song-3.wav", "song-3.wav.json", "songs.jsonl"));
  EXPECT_EQ(contents(folder / "own.wav"), alone("1"));
  EXPECT_EQ(json_of(folder / "song-2.wav.json")["request"]["lyrics"], "");
  EXPECT_EQ(json::parse(finished.out).size(), 3u);
}

TEST(Requests, come_through_a_pipe_and_flags_stand_over_them) {
  const TemporaryFolder folder;
  folder.write("songs.jsonl", R"({"lyrics": "lo", "tags": "x", "seed": 7, "save_path": "own.wav"}
{"lyrics": "lo", "seed": 8}
)");
  std::string command = "heartmula generate --requests -";
  for (const std::string& word : song_flags()) command += " '" + word + "'";
  const Finished finished =
      run_script("cat songs.jsonl | " + command + " --save_path song.wav --save_codes codes", folder.path());
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_EQ(contents(folder / "own.wav"), alone("1"));
  EXPECT_EQ(contents(folder / "song-2.wav"), contents(folder / "own.wav"));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("codes-1", "codes-2", "own.wav", "own.wav.json", "song-2.wav",
                                                   "song-2.wav.json", "songs.jsonl"));
}

TEST(Requests, may_name_codes_alone) {
  const TemporaryFolder folder;
  succeeds(generate(folder / "whole.wav", {"--save_codes", folder / "codes"}));
  folder.write("songs.jsonl", R"({"load_codes": "codes", "save_path": "again.wav"})");
  succeeds({"generate", "--requests", "songs.jsonl"}, folder.path().string());
  EXPECT_EQ(contents(folder / "again.wav"), contents(folder / "whole.wav"));
}

TEST(Requests, may_be_sidecars_whose_songs_stay) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  succeeds(songs(folder / "song.wav", "2"));
  const std::string lines =
      json_of(folder / "song-1.wav.json").dump() + "\n" + json_of(folder / "song-2.wav.json").dump();
  folder.write("again.jsonl", lines);
  const std::string first = contents(folder / "song-1.wav.json");
  succeeds({"generate", "--requests", "again.jsonl", "--save_path", "again.wav"}, here);
  EXPECT_EQ(contents(folder / "song-1.wav.json"), first);
  for (const std::string number : {"1", "2"}) {
    EXPECT_EQ(contents(folder / ("again-" + number + ".wav")), contents(folder / ("song-" + number + ".wav")));
  }
}

TEST(Requests, that_are_wrong_are_named_before_any_work) {
  const TemporaryFolder folder;
  const std::string good = R"({"lyrics": "la", "tags": "x", "max_audio_length_ms": 400})";
  const auto told = [&](const std::string& line, const Arguments& more = {}) {
    const fs::path file = folder.write("songs.jsonl", good + "\n\n" + line + "\n");
    return refused(
        Arguments{"generate", "--model_path", kTinyCheckpoint, "--save_path", folder / "song.wav", "--requests", file} +
            more,
        2);
  };
  EXPECT_THAT(told("{"), AllOf(HasSubstr("songs.jsonl, line 3"), HasSubstr("JSON")));
  EXPECT_THAT(told(R"({"lyrics": "la", "tagz": "x"})"), AllOf(HasSubstr("line 3"), HasSubstr("tagz")));
  EXPECT_THAT(told(R"({"lyrics": "la", "tags": "x", "topk": 0})"), AllOf(HasSubstr("line 3"), HasSubstr("topk")));
  EXPECT_THAT(told(R"({"lyrics": "la", "tags": "x", "threads": 7})"), AllOf(HasSubstr("line 3"), HasSubstr("threads")));
  EXPECT_THAT(told(R"({"lyrics": "la", "tags": "x", "save_path": "bad.xyz"})"),
              AllOf(HasSubstr("line 3"), HasSubstr("audio format")));
  EXPECT_THAT(told(R"({"lyrics": "la", "tags": "x", "codec_guidance_steps": "0,70"})"),
              AllOf(HasSubstr("line 3"), HasSubstr("step 70")));
  EXPECT_THAT(told(R"({"lyrics": "la", "tags": "x", "save_path": "-"})"),
              AllOf(HasSubstr("line 3"), HasSubstr("one stream")));
  const std::string first = (folder / "song-1.wav").string();
  EXPECT_THAT(told(R"({"lyrics": "la", "tags": "x", "save_path": ")" + first + "\"}"),
              AllOf(HasSubstr("songs 1 and 2"), HasSubstr("song-1.wav")));
  EXPECT_THAT(told(R"({"lyrics": "la", "tags": "x", "save_codes": ")" + first + ".codes.safetensors\"}"),
              HasSubstr("songs 1 and 2"));
  EXPECT_THAT(told(good, {"--songs", "2"}), HasSubstr("--songs and --requests"));
  EXPECT_THAT(told(good, {"--request", "x.json"}), HasSubstr("--request and --requests"));
  folder.write("songs.jsonl", " \n\n");
  EXPECT_THAT(refused({"generate", "--model_path", kTinyCheckpoint, "--requests", folder / "songs.jsonl"}, 2),
              HasSubstr("holds no request"));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("songs.jsonl"));
}

TEST(Failures, of_one_song_do_not_end_the_others) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  folder.write("there.wav", "mine");
  folder.write("songs.jsonl", R"({"lyrics": "la", "tags": "x", "save_path": "a.wav"}
{"lyrics": "la", "tags": "x", "save_path": "no/b.wav"}
{"lyrics": "la", "tags": "x", "save_path": "there.wav"}
{"lyrics": "la", "tags": "x", "save_path": "c.wav", "max_audio_length_ms": 100000000}
{"lyrics": "la", "tags": "x", "save_path": "d.wav"}
)");
  const Arguments command = {"generate", "--model_path", kTinyCheckpoint, "--requests", "songs.jsonl", "--codec_steps",
                             "1",        "--no_clobber", "--json"};
  const Finished finished = run_program(command, here);
  EXPECT_EQ(finished.exit_code, 2) << finished.err;
  EXPECT_THAT(finished.err, AllOf(HasSubstr("song 2 (no/b.wav): "), HasSubstr("song 3 (there.wav): "),
                                  HasSubstr("song 4 (c.wav): "), HasSubstr("context")));
  EXPECT_EQ(last_line(finished), "heartmula: 3 of 5 songs are not made");
  const json told = json::parse(finished.out);
  ASSERT_EQ(told.size(), 5u);
  EXPECT_TRUE(told[0].contains("result"));
  EXPECT_THAT(told[1]["error"].get<std::string>(), HasSubstr("no/b.wav"));
  EXPECT_EQ(contents(folder / "there.wav"), "mine");
  EXPECT_THAT(files_in(folder.path()),
              ElementsAre("a.wav", "a.wav.json", "d.wav", "d.wav.json", "songs.jsonl", "there.wav"));
}

TEST(Failures, of_a_full_disk_are_failures_that_can_be_gone_on_with) {
  const TemporaryFolder folder;
  std::string command = "heartmula";
  for (const std::string& word : songs("song.wav", "3", {"--model_path", endless_checkpoint()})) {
    command += " '" + word + "'";
  }
  const Finished finished = run_script("ulimit -f 100; " + command, folder.path());  // a file has at most 100 KB
  EXPECT_EQ(finished.exit_code, 1) << finished.err;
  const std::string go_on = "heartmula generate --requests song-1.wav.unfinished.jsonl";
  EXPECT_THAT(last_line(finished), HasSubstr(go_on + "`"));
  EXPECT_EQ(run_script(go_on, folder.path()).exit_code, 0);
  EXPECT_THAT(files_in(folder.path()), ElementsAre("song-1.wav", "song-1.wav.json", "song-2.wav", "song-2.wav.json",
                                                   "song-3.wav", "song-3.wav.json"));
  EXPECT_EQ(contents(folder / "song-3.wav"), alone("3", "song.wav", {"--model_path", endless_checkpoint()}));
}

/// Eight songs that are interrupted by this signal when three of them have frames, and gone on with by what the
/// program says, or what README says of a program that could say nothing.
void interrupted_and_gone_on_with(int signal, const Arguments& more = {}) {
  const TemporaryFolder folder;
  const Arguments length = {"--model_path", endless_checkpoint(), "--max_audio_length_ms", "12000"};
  Process process(program(songs("song.wav", "8", length + Arguments{"--songs_at_once", "3"} + more)),
                  folder.path().string());
  ASSERT_TRUE(process.wait_until([&] { return fs::exists(folder / "song-3.wav.codes.safetensors"); })) << process.err();
  process.send(signal);
  const Finished finished = process.wait();
  const std::string go_on = "heartmula generate --requests song-1.wav.unfinished.jsonl --songs_at_once 3";
  if (signal == SIGKILL) {
    EXPECT_EQ(finished.signal, SIGKILL);
  } else {
    EXPECT_EQ(finished.exit_code, 128 + signal) << finished.err;
    EXPECT_THAT(last_line(finished), AllOf(HasSubstr("cancelled; "), HasSubstr("`" + go_on + "`")));
  }
  const TemporaryFolder elsewhere;  // the list names whole paths
  const std::string list = (folder / "song-1.wav.unfinished.jsonl").string();
  const Finished rest = run_script("heartmula generate --requests " + list + " --songs_at_once 3", elsewhere.path());
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  std::set<std::string> expected;
  for (const std::string number : {"1", "2", "3", "4", "5", "6", "7", "8"}) {
    expected.insert("song-" + number + ".wav");
    expected.insert("song-" + number + ".wav.json");
  }
  EXPECT_EQ(files_in(folder.path()), expected);
  for (const std::string number : {"1", "3", "8"}) {
    EXPECT_EQ(contents(folder / ("song-" + number + ".wav")), alone(number, "song.wav", length)) << number;
  }
}

TEST(Interrupted, songs_are_gone_on_with_by_one_command) {
  interrupted_and_gone_on_with(SIGINT);
  interrupted_and_gone_on_with(SIGTERM, {"--lazy_load", "true"});
}

TEST(Interrupted, songs_of_a_program_that_was_killed_too) {
  interrupted_and_gone_on_with(SIGKILL);
}

TEST(Interrupted, songs_are_not_lost_by_beginning_anew) {
  const TemporaryFolder folder;
  const Arguments flags = songs(folder / "song.wav", "2",
                                {"--model_path", endless_checkpoint(), "--max_audio_length_ms", "600000", "--json"});
  Process process(program(flags));
  ASSERT_TRUE(process.wait_until([&] { return fs::exists(folder / "song-2.wav.codes.safetensors"); }));
  process.send(SIGINT);
  const Finished finished = process.wait();
  EXPECT_EQ(finished.exit_code, 130);
  EXPECT_EQ(json::parse(finished.out)[1]["result"]["stop_reason"], "cancelled");
  EXPECT_THAT(refused(flags, 2), AllOf(HasSubstr("song-1.wav.unfinished.jsonl"), HasSubstr("--requests")));
}

}  // namespace
}  // namespace heartmula

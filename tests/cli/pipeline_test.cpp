// The way of a song as a user goes it: generate, decode, go on, make it again.
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

const Arguments kToStdout = {"--save_path", "/dev/stdout", "--format", "wav", "--sample_format", "f32"};

json inspected(const fs::path& path) {
  return json::parse(succeeds({"inspect", "--json", path}).out);
}

/// The samples, as a WAV file without tags.
std::string heard(const Arguments& more = {}, const std::string& checkpoint = endless_checkpoint()) {
  const Finished finished = succeeds(Arguments{"generate"} + song_flags(800, checkpoint) + kToStdout + more);
  EXPECT_GT(finished.out.size(), 8u * 3840 * 11);
  return finished.out;
}

TEST(Generate, writes_the_song_and_its_sidecar_and_says_what_it_did) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(generate(folder / "song.wav", {"--model_path", endless_checkpoint()}));
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(files_in(folder.path()), ElementsAre("song.wav", "song.wav.json"));
  EXPECT_THAT(finished.err, AllOf(HasSubstr("memory plan"), HasSubstr("song.wav: 0.88 s of music, 11 frames, seed 1"),
                                  HasSubstr("ended by --max_audio_length_ms"), HasSubstr("peak memory")));
  EXPECT_EQ(json_of(folder / "song.wav.json")["result"]["stop_reason"], "length");
}

TEST(Generate, a_song_that_the_model_ends_says_so) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(generate(folder / "song.wav", {"--max_audio_length_ms", "80000"}));
  EXPECT_THAT(finished.err, HasSubstr("ended by the model"));
  const json result = json_of(folder / "song.wav.json")["result"];
  EXPECT_EQ(result["stop_reason"], "eos");
  EXPECT_LT(result["frames"], 1001);
}

TEST(Generate, the_sidecar_makes_the_same_song_again) {
  const TemporaryFolder folder;
  const fs::path song = folder / "song.flac";
  succeeds(generate(song, {"--title", "Été", "--temperature", "1.25", "--topk", "7", "--cfg_scale", "2"}));
  const std::string before = contents(song);
  const fs::path sidecar = folder / "kept.json";
  fs::rename(song.string() + ".json", sidecar);
  fs::remove(song);
  succeeds({"generate", "--request", sidecar, "--save_path", song});
  EXPECT_EQ(contents(song), before);
  EXPECT_EQ(json_of(song.string() + ".json")["request"], json_of(sidecar)["request"]);

  succeeds({"generate", "--request", sidecar, "--save_path", song, "--seed", "2"});
  EXPECT_NE(contents(song), before);
}

TEST(Generate, a_random_seed_is_printed_stored_and_another_every_time) {
  const TemporaryFolder folder;
  std::set<uint64_t> seeds;
  for (int i = 0; i < 2; ++i) {
    const Finished finished = succeeds(generate(folder / "song.wav", {"--seed", "-1"}));
    const auto seed = json_of(folder / "song.wav.json")["request"]["seed"].get<uint64_t>();
    EXPECT_THAT(finished.err, HasSubstr("seed " + std::to_string(seed)));
    seeds.insert(seed);
  }
  EXPECT_EQ(seeds.size(), 2u);
}

TEST(Generate, the_same_song_for_any_number_of_threads_and_models_at_a_time) {
  const std::string song = heard({"--threads", "1", "--codec_steps", "2", "--codec_guidance_scale", "1.25"});
  for (const std::string threads : {"2", "3"}) {
    for (const std::string lazy : {"false", "true"}) {
      EXPECT_EQ(
          heard({"--threads", threads, "--lazy_load", lazy, "--codec_steps", "2", "--codec_guidance_scale", "1.25"}),
          song)
          << threads << " threads, lazy_load " << lazy;
    }
  }
}

TEST(Generate, one_core_is_enough) {
  if (run_script("taskset -c 0 true").exit_code != 0) GTEST_SKIP() << "no taskset, or core 0 is not ours";
  const TemporaryFolder folder;
  Arguments command = {"taskset", "-c", "0"};
  for (const std::string& word : program(generate(folder / "song.wav"))) command.push_back(word);
  const Finished finished = Process(command).wait();
  EXPECT_EQ(finished.exit_code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("1 thread)"));
}

TEST(Generate, json_on_standard_output_is_the_sidecar) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(generate(folder / "song.wav", {"--json"}));
  EXPECT_EQ(json::parse(finished.out), json_of(folder / "song.wav.json"));
  EXPECT_THAT(finished.err, Not(HasSubstr("of music")));
}

TEST(Generate, a_song_in_a_pipe_is_the_song_in_a_file) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  const std::string command = "heartmula generate --model_path " + endless_checkpoint() +
                              " --lyrics_text x --tags_text y --max_audio_length_ms 800 --seed 1 --codec_steps 1 "
                              "--codec_guidance_scale 1 --format wav --progress none --save_path ";
  ASSERT_EQ(run_script("mkfifo pipe; cat pipe > from_fifo & " + command + "pipe && wait", here).exit_code, 0);
  ASSERT_EQ(run_script(command + "- >> file && " + command + "/dev/fd/3 3>&1 | cat > from_pipe", here).exit_code, 0);
  EXPECT_GT(contents(folder / "file").size(), 4u * 3840 * 11);
  EXPECT_EQ(contents(folder / "from_pipe"), contents(folder / "file"));
  EXPECT_EQ(contents(folder / "from_fifo"), contents(folder / "file"));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("file", "from_fifo", "from_pipe", "pipe"));
}

TEST(Generate, a_pipe_that_closes_is_a_failure_that_keeps_the_codes) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  std::string words;
  for (const std::string& word : Arguments{"generate"} + song_flags(800, endless_checkpoint()) + kToStdout) {
    words += " '" + word + "'";
  }
  const Finished finished = run_script("heartmula" + words + " --save_codes " + codes.string() +
                                       " | head -c 100 >/dev/null; exit ${PIPESTATUS[0]}");
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(complaint(finished),
              AllOf(HasSubstr("/dev/stdout: Broken pipe"), HasSubstr("--load_codes " + codes.string())));
  EXPECT_EQ(inspected(codes)["frames"], 11);
}

TEST(Generate, a_folder_that_cannot_be_written_is_no_matter_when_the_song_goes_elsewhere) {
  const TemporaryFolder folder;
  succeeds(generate(folder / "song.wav"), "/proc");
  EXPECT_THAT(
      refused({"generate", "--model_path", kTinyCheckpoint, "--lyrics_text", "", "--tags_text", ""}, 2, "/proc"),
      HasSubstr("output.mp3"));
}

TEST(Generate, the_folder_assets_is_where_heartlib_has_it) {
  const TemporaryFolder folder;
  folder.write("assets/lyrics.txt", "[verse]\nla la");
  folder.write("assets/tags.txt", "piano,happy");
  const Arguments flags = {"--model_path", kTinyCheckpoint, "--max_audio_length_ms", "400", "--codec_steps", "1"};
  succeeds(Arguments{"generate"} + flags, folder.path().string());
  EXPECT_THAT(files_in(folder.path()),
              ElementsAre("assets/lyrics.txt", "assets/output.mp3", "assets/output.mp3.json", "assets/tags.txt"));
  EXPECT_EQ(json_of(folder / "assets/output.mp3.json")["request"]["lyrics"], "[verse]\nla la");
}

// ---- texts

TEST(Texts, line_ends_and_byte_order_mark_of_a_file_change_nothing) {
  const TemporaryFolder folder;
  const fs::path plain = folder.write("plain", "[Verse]\nLa la\n");
  for (const char* text : {"[Verse]\r\nLa la\r\n", "\xEF\xBB\xBF[Verse]\nLa la\n", "\xEF\xBB\xBF[Verse]\rLa la\r"}) {
    const fs::path file = folder.write("file.txt", text);
    const TemporaryFolder songs;
    for (const fs::path& lyrics : {plain, file}) {
      succeeds(Arguments{"generate", "--lyrics", lyrics} +
               Arguments{"--model_path", kTinyCheckpoint, "--tags_text", "x", "--save_path", songs / "song.wav",
                         "--seed", "1", "--max_audio_length_ms", "80", "--codec_steps", "1"});
      EXPECT_EQ(json_of(songs / "song.wav.json")["request"]["lyrics"], "[Verse]\nLa la\n");
    }
  }
}

TEST(Texts, empty_ones_make_a_song) {
  const TemporaryFolder folder;
  for (const Arguments& texts :
       {Arguments{"--lyrics_text", "", "--tags_text", "piano"}, Arguments{"--lyrics_text", "la", "--tags_text", ""},
        Arguments{"--lyrics_text", "", "--tags_text", ""}, Arguments{"--tags", ""},
        Arguments{"--lyrics", folder.write("empty.txt", "")},
        Arguments{"--lyrics", folder.write("marked.txt", "\xEF\xBB\xBF")}, Arguments{"--lyrics_text", "\n\n \t\r\n"}}) {
    succeeds(generate(folder / "song.wav", texts));
  }
}

TEST(Texts, a_file_name_that_is_no_utf8_is_a_name_all_the_same) {
  const TemporaryFolder folder;
  const fs::path lyrics = folder.write("paroles\xff.txt", "la la");
  succeeds(generate(folder / "song.wav", {"--lyrics", lyrics}));
}

TEST(Texts, a_text_flag_takes_what_looks_like_a_file) {
  const TemporaryFolder folder;
  succeeds(generate(folder / "song.wav", {"--lyrics_text", "./lyrics.txt", "--tags_text", "/piano"}));
  const json request = json_of(folder / "song.wav.json")["request"];
  EXPECT_EQ(request["lyrics"], "./lyrics.txt");
  EXPECT_EQ(request["tags"], "/piano");
}

// ---- codes

TEST(Codes, decoded_give_the_samples_of_the_song) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  const std::string song = heard({"--save_codes", codes});
  EXPECT_EQ(succeeds(Arguments{"decode", codes} + kToStdout).out, song);
  EXPECT_EQ(succeeds(Arguments{"decode", codes, "--threads", "1"} + kToStdout).out, song);
  EXPECT_NE(succeeds(Arguments{"decode", codes, "--codec_steps", "2"} + kToStdout).out, song);
  EXPECT_NE(succeeds(Arguments{"decode", codes, "--seed", "5"} + kToStdout).out, song);
}

TEST(Codes, hold_the_request_that_made_them) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  succeeds(generate(folder / "song.wav", {"--save_codes", codes}));
  const json sidecar = json_of(folder / "song.wav.json");
  EXPECT_EQ(inspected(codes)["request"], sidecar["request"]);
  EXPECT_EQ(inspected(codes)["frames"], sidecar["result"]["frames"]);
  EXPECT_THAT(files_in(folder.path()), ElementsAre("codes", "song.wav", "song.wav.json"));
}

TEST(Codes, what_decode_writes_can_be_made_again_by_generate) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  const fs::path song = folder / "decoded.wav";
  succeeds(generate(folder / "song.wav", {"--save_codes", codes, "--model_path", endless_checkpoint()}));
  edit_header(codes, [](json& header) {  // as after an interruption: half of the frames that were asked for
    header["codes"]["shape"] = {5, 8};
    header["codes"]["data_offsets"] = {0, 160};
  });
  fs::resize_file(codes, fs::file_size(codes) - 6 * 32);
  succeeds({"decode", codes, "--save_path", song});
  const std::string decoded = contents(song);
  const json result = json_of(song.string() + ".json")["result"];
  EXPECT_EQ(result["frames"], 5);
  const fs::path request = folder / "request.json";
  fs::rename(song.string() + ".json", request);
  succeeds({"generate", "--request", request, "--save_path", song});
  constexpr size_t kSampleBytes = 5 * 3840 * 2 * 2;  // behind a header of 44 bytes; then come tags
  EXPECT_EQ(contents(song).substr(44, kSampleBytes), decoded.substr(44, kSampleBytes));
  EXPECT_EQ(inspected(codes)["frames"], 5);
}

TEST(Codes, continuing_keeps_the_beginning_and_ends_at_the_total_length) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  const fs::path longer = folder / "longer";
  const Arguments out = {"--save_path", folder / "song.wav"};
  succeeds(generate(folder / "song.wav", {"--save_codes", codes, "--model_path", endless_checkpoint()}));
  succeeds(Arguments{"generate", "--load_codes", codes, "--continue_from_ms", "240", "--seed", "9",
                     "--max_audio_length_ms", "1600", "--save_codes", longer} +
           out);
  EXPECT_EQ(inspected(codes)["frames"], 11);
  EXPECT_EQ(inspected(longer)["frames"], 21);
  const std::string old_codes = contents(codes);
  const std::string new_codes = contents(longer);
  const std::string beginning = old_codes.substr(old_codes.size() - 11 * 32, 4 * 32);
  const std::string continued = new_codes.substr(new_codes.size() - 21 * 32, 4 * 32);
  EXPECT_EQ(continued.substr(0, 3 * 32), beginning.substr(0, 3 * 32));
  EXPECT_NE(continued, beginning);
}

TEST(Codes, going_on_with_all_of_them_makes_the_same_song) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  const std::string song = heard({"--save_codes", codes});
  EXPECT_EQ(succeeds(Arguments{"generate", "--load_codes", codes} + kToStdout).out, song);
  EXPECT_EQ(succeeds(Arguments{"generate", "--load_codes", codes, "--continue_from_ms", "400"} + kToStdout).out, song);
  EXPECT_EQ(succeeds(Arguments{"generate", "--load_codes", codes, "--continue_from_ms", "0"} + kToStdout).out, song);
}

// ---- progress

TEST(ProgressOfProgram, json_is_one_object_a_line_and_nothing_else) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(generate(folder / "song.wav", {"--progress", "json"}));
  std::map<std::string, json> last;
  for (const std::string& line : lines_of(finished.err)) {
    const json object = json::parse(line);
    if (object.contains("event")) {
      EXPECT_EQ(object["event"], "warning") << line;
      continue;
    }
    for (const char* field : {"stage", "done", "total", "seconds", "eta_s"})
      EXPECT_TRUE(object.contains(field)) << line;
    json& before = last[object["stage"]];
    if (!before.is_null()) {
      EXPECT_GE(object["done"], before["done"]) << line;
      EXPECT_GE(object["seconds"], before["seconds"]) << line;
    }
    before = object;
  }
  ASSERT_EQ(last.size(), 3u) << finished.err;
  for (const char* stage : {"load", "codec"}) EXPECT_EQ(last[stage]["done"], last[stage]["total"]) << stage;
  EXPECT_EQ(last["frames"]["total"], 11);
  EXPECT_EQ(last["codec"]["eta_s"], 0);
}

TEST(ProgressOfProgram, none_is_silence_but_for_warnings) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(generate(folder / "song.wav", {"--progress", "none"}));
  EXPECT_THAT(lines_of(finished.err), testing::Each(StartsWith("heartmula: warning: ")));
  EXPECT_EQ(finished.out, "");
  const std::string warning = "heartmula: warning: --mula_dtype fp16: this build computes 16-bit floats as bf16\n";
  EXPECT_THAT(succeeds(generate(folder / "song.wav", {"--progress", "none", "--mula_dtype", "fp16"})).err,
              StartsWith(warning));
}

TEST(ProgressOfProgram, lines_have_no_control_characters) {
  const TemporaryFolder folder;
  for (const std::string mode : {"lines", "auto"}) {  // a log is no terminal
    const Finished finished = succeeds(generate(folder / "song.wav", {"--progress", mode}));
    EXPECT_THAT(finished.err, AllOf(HasSubstr("load "), HasSubstr("frames "), HasSubstr("codec "), Not(HasSubstr("\r")),
                                    Not(HasSubstr("\x1b"))));
  }
}

TEST(ProgressOfProgram, a_bar_is_drawn_over_itself) {
  const TemporaryFolder folder;
  const Finished finished = succeeds(generate(folder / "song.wav", {"--progress", "bar"}));
  EXPECT_THAT(finished.err, AllOf(HasSubstr("\r"), HasSubstr("frames"), HasSubstr("codec")));
}

}  // namespace
}  // namespace heartmula

// What somebody made is not written over; a song says what made it, and what it says makes it again.
#include <cstring>

#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

Arguments endless(const fs::path& song, const Arguments& more = {}) {
  return generate(song, Arguments{"--model_path", endless_checkpoint()} + more);
}

TEST(KeptWork, codes_that_are_loaded_are_never_shortened) {
  const TemporaryFolder folder;
  const fs::path kept = folder / "kept";
  succeeds(endless(folder / "a.wav", {"--save_codes", kept}));
  const std::string codes = contents(kept);
  const std::string song = contents(folder / "a.wav");
  succeeds({"generate", "--load_codes", kept, "--continue_from_ms", "160", "--save_path", folder / "b.wav"});
  EXPECT_EQ(contents(kept), codes);
  EXPECT_EQ(contents(folder / "a.wav"), song);
  EXPECT_THAT(files_in(folder.path()), ElementsAre("a.wav", "a.wav.json", "b.wav", "b.wav.json", "kept"));
  EXPECT_THAT(refused({"generate", "--load_codes", kept, "--save_codes", kept, "--save_path", folder / "c.wav"}, 2),
              AllOf(HasSubstr("--load_codes"), HasSubstr("--save_codes")));
  EXPECT_EQ(contents(kept), codes);
}

TEST(KeptWork, codes_that_were_saved_for_good_outlive_the_song_that_goes_on_with_them) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "song.wav.codes.safetensors";
  succeeds(endless(folder / "song.wav", {"--save_codes", codes}));
  const std::string kept = contents(codes);
  succeeds({"generate", "--load_codes", codes, "--max_audio_length_ms", "1600", "--save_path", folder / "song.wav"});
  EXPECT_EQ(json_of(folder / "song.wav.json")["result"]["frames"], 21);
  EXPECT_EQ(contents(codes), kept);
}

// What guesses change is the same song only if the same guesses are made.
TEST(KeptWork, a_lossy_song_is_made_again_by_its_sidecar) {
  const TemporaryFolder folder;
  const Arguments lossy = {"--lossy", "topk", "--drafter", "bigram", "--draft_frames", "2", "--max_audio_length_ms",
                           "4000"};
  succeeds(endless(folder / "first.wav", lossy));
  succeeds({"generate", "--request", folder / "first.wav.json", "--save_path", folder / "again.wav"});
  EXPECT_EQ(contents(folder / "again.wav"), contents(folder / "first.wav"));
  EXPECT_EQ(json_of(folder / "again.wav.json")["request"]["draft_frames"], 2);
  succeeds({"generate", "--request", folder / "first.wav", "--model_path", endless_checkpoint(), "--save_path",
            folder / "again.wav"});
  EXPECT_EQ(contents(folder / "again.wav"), contents(folder / "first.wav"));
}

TEST(KeptWork, a_song_without_some_layers_says_so) {
  const TemporaryFolder folder;
  succeeds(endless(folder / "whole.wav"));
  const Finished made = succeeds(endless(folder / "less.wav", {"--skip_layers", "1"}));
  EXPECT_THAT(made.err, HasSubstr("level G2 (--skip_layers 1)"));
  EXPECT_NE(contents(folder / "less.wav"), contents(folder / "whole.wav"));
  const json whole = json_of(folder / "whole.wav.json")["result"];
  const json less = json_of(folder / "less.wav.json")["result"];
  EXPECT_EQ(less["level"], "G2");
  EXPECT_NE(less["checkpoint"]["language_model"]["fingerprint"], whole["checkpoint"]["language_model"]["fingerprint"]);
  EXPECT_LT(less["memory_plan"]["language_model"]["weights_bytes"],
            whole["memory_plan"]["language_model"]["weights_bytes"]);
  EXPECT_THAT(refused(endless(folder / "none.wav", {"--skip_layers", "3"}), 2), HasSubstr("has 3 layers"));
}

TEST(KeptWork, a_request_writes_nothing_that_its_song_wrote) {
  const TemporaryFolder folder;
  succeeds(endless(folder / "first.wav", {"--save_codes", folder / "codes"}));
  const std::string song = contents(folder / "first.wav");
  const std::string sidecar = contents(folder / "first.wav.json");
  const std::string codes = contents(folder / "codes");
  const TemporaryFolder elsewhere;
  const Arguments again = {"generate", "--request", folder / "first.wav.json", "--seed", "5"};
  succeeds(again, elsewhere.path().string());
  succeeds(again, elsewhere.path().string());
  EXPECT_THAT(files_in(elsewhere.path()),
              ElementsAre("output-1.mp3", "output-1.mp3.json", "output.mp3", "output.mp3.json"));
  EXPECT_EQ(contents(folder / "first.wav"), song);
  EXPECT_EQ(contents(folder / "first.wav.json"), sidecar);
  EXPECT_EQ(contents(folder / "codes"), codes);
}

TEST(KeptWork, the_checkpoint_and_what_is_read_are_no_outputs) {
  const TemporaryFolder folder;
  const std::string checkpoint = copy_of_checkpoint(folder);
  const auto refuses = [&](const Arguments& flags) {
    const std::set<std::string> before = files_in(folder.path());
    const std::string message =
        refused(generate(folder / "song.wav", Arguments{"--model_path", checkpoint} + flags), 2);
    EXPECT_EQ(files_in(folder.path()), before);
    return message;
  };
  const std::string tokenizer = checkpoint + "/tokenizer.json";
  const std::string before = contents(tokenizer);
  for (const char* flag : {"--save_codes", "--profile", "--spectrogram"}) {
    EXPECT_THAT(refuses({flag, tokenizer}), AllOf(HasSubstr(flag), HasSubstr("tokenizer.json"))) << flag;
  }
  EXPECT_THAT(refuses({"--save_codes", checkpoint + "/" + kLmFolder + "/config.json"}), HasSubstr("checkpoint"));
  EXPECT_EQ(contents(tokenizer), before);
  const fs::path lyrics = folder.write("song.wav.json", "la la");
  EXPECT_THAT(refuses({"--lyrics", lyrics}), HasSubstr("--lyrics"));
  EXPECT_EQ(contents(lyrics), "la la");
}

TEST(KeptWork, what_comes_through_standard_input_is_not_written) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  succeeds(generate(folder / "song.wav", {"--save_codes", folder / "codes"}));
  const std::string codes = contents(folder / "codes");
  const Finished finished = run_script("heartmula decode - --save_path codes --format wav < codes", here);
  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_THAT(complaint(finished), HasSubstr("standard input"));
  EXPECT_EQ(contents(folder / "codes"), codes);
}

TEST(KeptWork, two_programs_do_not_write_one_song) {
  const TemporaryFolder folder;
  const fs::path song = folder / "song.wav";
  const Arguments long_song = {"--max_audio_length_ms", "600000", "--progress", "json"};
  Process first(program(endless(song, long_song)));
  ASSERT_TRUE(first.wait_until([&] { return first.err().find("\"stage\":\"frames\"") != std::string::npos; }));
  EXPECT_THAT(refused(endless(song), 2), AllOf(StartsWith(song.string()), HasSubstr("another heartmula is writing")));
  fs::create_directory_symlink(folder.path(), folder / "here");
  EXPECT_THAT(refused(endless(folder / "here/song.wav"), 2), HasSubstr("another heartmula is writing"));
  for (const std::string derived : {"song.wav.json", "song.wav.codes.safetensors"}) {
    EXPECT_THAT(refused(endless(folder / "other.wav", {"--save_codes", folder.path() / derived}), 2),
                HasSubstr("another heartmula is writing"));
  }
  first.send(SIGTERM);
  EXPECT_EQ(first.wait().exit_code, 143);
  EXPECT_THAT(files_in(folder.path()), ElementsAre("song.wav.codes.safetensors", "song.wav.json"));
  succeeds(endless(song));
}

TEST(KeptWork, an_existing_song_stays_if_that_is_asked_for) {
  const TemporaryFolder folder;
  const fs::path song = folder.write("song.wav", "mine");
  EXPECT_THAT(refused(generate(song, {"--no_clobber"}), 2), AllOf(HasSubstr("song.wav"), HasSubstr("--no_clobber")));
  EXPECT_EQ(contents(song), "mine");
  succeeds(generate(folder / "other.wav", {"--no_clobber"}));
}

TEST(Origin, a_song_holds_what_makes_it_again_and_nothing_of_the_machine) {
  const TemporaryFolder folder;
  for (const std::string name : {"song.flac", "song.mp3", "song.opus", "song.ogg", "song.wav"}) {
    const TemporaryFolder others;
    const fs::path again = others / name;
    succeeds(generate(folder / name, {"--threads", "1"}));
    succeeds({"generate", "--request", folder / name, "--model_path", kTinyCheckpoint, "--save_path", again});
    EXPECT_EQ(contents(again), contents(folder / name)) << name;
    EXPECT_THAT(contents(again), Not(HasSubstr(folder.path().string()))) << name;
    EXPECT_EQ(json_of(again.string() + ".json")["request"]["threads"], 0);
  }
}

TEST(Origin, a_decoded_song_is_the_song) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  succeeds(generate(folder / "song.flac", {"--save_codes", codes, "--title", "Moon"}));
  succeeds({"decode", codes, "--save_path", folder / "decoded.flac"});
  EXPECT_EQ(contents(folder / "decoded.flac"), contents(folder / "song.flac"));
}

TEST(Origin, no_metadata_is_music_alone) {
  const TemporaryFolder folder;
  succeeds(generate(folder / "song.flac", {"--no_metadata", "--title", "Secret"}));
  EXPECT_THAT(contents(folder / "song.flac"), AllOf(Not(HasSubstr("Secret")), Not(HasSubstr("HEARTMULA"))));
  EXPECT_THAT(refused({"generate", "--request", folder / "song.flac", "--model_path", kTinyCheckpoint}, 2),
              HasSubstr("song.flac"));
}

TEST(Origin, the_checkpoint_that_sang_is_known_by_its_weights) {
  const TemporaryFolder folder;
  const std::string copy = copy_of_checkpoint(folder);
  const fs::path codes = folder / "codes";
  const Finished made = succeeds(generate(folder / "song.wav", {"--save_codes", codes}));
  const json who = json_of(folder / "song.wav.json")["result"]["checkpoint"];
  EXPECT_EQ(who["language_model"]["name"], kLmFolder);
  EXPECT_THAT(made.err, HasSubstr(who["codec"]["fingerprint"].get<std::string>()));
  const Arguments decode = {"decode", codes, "--model_path", copy, "--save_path", folder / "decoded.wav"};
  EXPECT_THAT(succeeds(decode).err, Not(HasSubstr("another codec")));

  const fs::path weights = fs::path(copy) / kCodecFolder / "model.safetensors";
  std::fstream file(weights, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(-4, std::ios::end);  // of the last tensor's sample, too
  const int low_bits = file.get();
  file.seekp(-4, std::ios::end);
  file.put(static_cast<char>(low_bits ^ 1));
  file.close();
  EXPECT_THAT(succeeds(decode).err, HasSubstr("another codec"));
  EXPECT_THAT(json_of(folder / "decoded.wav.json")["result"]["warnings"].dump(), HasSubstr("another codec"));
}

TEST(Lengths, one_that_nobody_gave_is_cut_to_what_fits_with_a_note) {
  const TemporaryFolder folder;
  const std::string checkpoint = copy_of_checkpoint(folder);
  fs::copy_file(endless_checkpoint() + "/gen_config.json", checkpoint + "/gen_config.json",
                fs::copy_options::overwrite_existing);
  edit_json(fs::path(checkpoint) / kLmFolder / "config.json",
            [](json& config) { config["backbone"]["max_seq_len"] = 60; });
  const Finished made = succeeds({"generate", "--model_path", checkpoint, "--lyrics_text", "la", "--tags_text", "x",
                                  "--save_path", folder / "song.wav", "--codec_steps", "1"});
  EXPECT_THAT(made.err, HasSubstr("context holds no more"));
  const json sidecar = json_of(folder / "song.wav.json");
  EXPECT_LT(sidecar["request"]["max_audio_length_ms"], 60 * 80);
  EXPECT_EQ(sidecar["result"]["frames"], sidecar["request"]["max_audio_length_ms"].get<int64_t>() / 80 + 1);
}

TEST(Lengths, a_song_that_would_end_goes_on_if_that_is_asked_for) {
  const TemporaryFolder folder;
  const auto result = [&](const Arguments& flags) {
    succeeds(generate(folder / "song.wav", Arguments{"--max_audio_length_ms", "8000"} + flags));
    return json_of(folder / "song.wav.json")["result"];
  };
  const json plain = result({});
  ASSERT_EQ(plain["stop_reason"], "eos");
  EXPECT_EQ(plain["level"], "G0");
  const int64_t ms = (plain["frames"].get<int64_t>() + 5) * 80;
  const json longer = result({"--min_audio_length_ms", std::to_string(ms)});
  EXPECT_GE(longer["frames"], plain["frames"].get<int64_t>() + 5);
  EXPECT_EQ(longer["level"], "G2");
  const json endless_song = result({"--ignore_eos"});
  EXPECT_EQ(endless_song["stop_reason"], "length");
  EXPECT_EQ(endless_song["frames"], 101);
  EXPECT_EQ(endless_song["level"], "G2");
  EXPECT_THAT(refused({"generate", "--model_path", kTinyCheckpoint, "--lyrics_text", "", "--tags_text", "",
                       "--min_audio_length_ms", "300000"},
                      2, folder.path().string()),
              HasSubstr("more than --max_audio_length_ms 240000"));
  EXPECT_THAT(refused(generate(folder / "no.wav", {"--min_audio_length_ms", "900"}), 2),
              AllOf(HasSubstr("--min_audio_length_ms"), HasSubstr("--max_audio_length_ms")));
}

TEST(Lengths, a_song_that_is_cut_off_fades_out_when_it_is_made_and_when_it_is_decoded) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  const Arguments wav = {"--sample_format", "f32", "--no_metadata"};
  succeeds(endless(folder / "plain.wav", wav));
  succeeds(endless(folder / "faded.wav", wav + Arguments{"--fade_out_ms", "200", "--save_codes", codes}));
  const std::string plain = contents(folder / "plain.wav");
  const std::string faded = contents(folder / "faded.wav");
  ASSERT_EQ(plain.size(), faded.size());
  const size_t fade = 200 * 48 * 2 * sizeof(float);
  EXPECT_EQ(plain.substr(0, plain.size() - fade), faded.substr(0, faded.size() - fade));
  float last = 1;
  std::memcpy(&last, faded.data() + faded.size() - sizeof(last), sizeof(last));
  EXPECT_EQ(last, 0);
  succeeds(Arguments{"decode", codes, "--save_path", folder / "decoded.wav"} + wav);
  EXPECT_EQ(contents(folder / "decoded.wav"), faded);
}

TEST(Streams, a_song_goes_to_standard_output_and_codes_come_through_a_pipe) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  succeeds(generate(folder / "song.wav", {"--save_codes", folder / "codes"}));
  ASSERT_EQ(run_script("heartmula decode song.wav --save_path x.wav", here).exit_code, 2);
  for (const char* source : {"cat codes | heartmula decode -", "heartmula decode <(cat codes)"}) {
    const std::string command = std::string(source) + " --format wav --save_path - | cat > piped";
    const Finished finished = run_script(command, here);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    EXPECT_EQ(contents(folder / "piped").substr(44, 40000), contents(folder / "song.wav").substr(44, 40000));
  }
  ASSERT_EQ(run_script("cat song.wav.json | heartmula generate --request - --save_path again.wav", here).exit_code, 0);
  EXPECT_EQ(contents(folder / "again.wav"), contents(folder / "song.wav"));
}

TEST(Streams, a_song_through_a_pipe_is_a_request) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  for (const std::string format : {"wav", "flac", "ogg", "opus", "mp3"}) {
    succeeds(generate(folder / ("song." + format)));
    const Finished finished = run_script("cat song." + format + " | heartmula generate --model_path " +
                                             kTinyCheckpoint + " --request - --save_path again." + format,
                                         here);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    EXPECT_EQ(contents(folder / ("again." + format)), contents(folder / ("song." + format)));
  }
}

TEST(Streams, codes_through_a_pipe_are_called_what_they_are) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  succeeds(generate(folder / "song.wav", {"--save_codes", folder / "codes"}));
  EXPECT_THAT(complaint(run_script("head -c 300 codes | heartmula decode - --save_path x.wav", here)),
              StartsWith("standard input: truncated"));
  EXPECT_THAT(complaint(run_script("cat codes | heartmula generate --load_codes - --continue_from_ms 90000 "
                                   "--max_audio_length_ms 2000 --save_path x.wav",
                                   here)),
              HasSubstr("standard input ends after"));
  ASSERT_EQ(run_script("cat codes | heartmula decode - --save_path decoded.wav", here).exit_code, 0);
  EXPECT_EQ(json_of(folder / "decoded.wav.json")["request"]["load_codes"], "-");
  ASSERT_EQ(
      run_script("cat codes | heartmula generate --request decoded.wav.json --save_path again.wav", here).exit_code, 0);
  EXPECT_EQ(contents(folder / "again.wav").substr(44, 40000), contents(folder / "song.wav").substr(44, 40000));
  EXPECT_THAT(run_script("cat codes | heartmula inspect -", here).out, StartsWith("codes standard input: "));
  const std::string weights = kTinyCheckpoint + "/" + kCodecFolder + "/model.safetensors";
  EXPECT_THAT(run_script("heartmula inspect - <" + weights + "; cat " + weights + " | heartmula inspect -", here).out,
              HasSubstr("standard input: "));
}

TEST(TwoSongs, without_a_name_get_two_numbers) {
  const TemporaryFolder folder;
  Arguments flags = song_flags();
  flags.insert(flags.begin(), "generate");
  Process first(program(flags), folder.path().string());
  Process second(program(flags), folder.path().string());
  EXPECT_EQ(first.wait().exit_code, 0);
  EXPECT_EQ(second.wait().exit_code, 0);
  EXPECT_THAT(files_in(folder.path()),
              ElementsAre("output-1.mp3", "output-1.mp3.json", "output.mp3", "output.mp3.json"));
}

TEST(Flags, that_do_not_exist_are_guessed) {
  const TemporaryFolder folder;
  const auto told = [&](const std::string& flag) { return refused(generate(folder / "song.wav", {flag, "1"}), 2); };
  EXPECT_THAT(told("--output"), HasSubstr("--save_path"));
  EXPECT_THAT(told("-o"), HasSubstr("--save_path"));
  EXPECT_THAT(told("--duration"), HasSubstr("--max_audio_length_ms"));
  EXPECT_THAT(told("--top_k"), HasSubstr("--topk"));
  EXPECT_THAT(told("--temp"), HasSubstr("--temperature"));
}

TEST(Flags, what_a_request_turned_on_can_be_turned_off) {
  const TemporaryFolder folder;
  const fs::path request = folder.write("request.json", R"({"compat": true, "no_metadata": true})");
  succeeds(generate(folder / "song.wav", {"--request", request, "--no_metadata=false"}));
  EXPECT_EQ(json_of(folder / "song.wav.json")["request"]["no_metadata"], false);
  EXPECT_EQ(json_of(folder / "song.wav.json")["request"]["compat"], true);
  EXPECT_THAT(refused({"generate", "--request", request, "--model_path", kTinyCheckpoint}, 2, folder.path().string()),
              HasSubstr("--lyrics is missing"));
}

TEST(Flags, debug_may_stand_behind_the_command) {
  const TemporaryFolder folder;
  EXPECT_THAT(succeeds(generate(folder / "song.wav", {"--debug"})).err, HasSubstr("debug"));
}

TEST(Flags, a_text_is_given_once) {
  const TemporaryFolder folder;
  EXPECT_THAT(refused({"generate", "--model_path", kTinyCheckpoint, "--lyrics", "la la", "--lyrics_text", "la",
                       "--tags", "x", "--save_path", folder / "song.wav"},
                      2),
              AllOf(HasSubstr("--lyrics"), HasSubstr("--lyrics_text")));
  EXPECT_THAT(succeeds(generate(folder / "song.wav", {"--lyrics", ""})).err, HasSubstr("instrumental"));
}

}  // namespace
}  // namespace heartmula

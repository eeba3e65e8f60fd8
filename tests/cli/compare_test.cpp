// heartmula compare and heartmula abx.
#include <cmath>

#include "audio/audio_writer.h"
#include "cli/testing.h"
#include "measure/signals.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

json compared(const fs::path& a, const fs::path& b) {
  return json::parse(succeeds({"compare", a, b, "--json"}).out);
}

std::string table(const fs::path& a, const fs::path& b) {
  return succeeds({"compare", a, b}).out;
}

struct Pieces {
  TemporaryFolder folder;
  fs::path loud = folder / "loud.wav";
  fs::path quiet = folder / "quiet.wav";
  fs::path mono = folder / "mono.wav";

  Pieces() {
    const Samples left = sine(0.2, 997, 2) + noise(0.01, 96000, 1);
    const Samples right = sine(0.2, 997, 2) + noise(0.01, 96000, 2);
    write_wav(loud, {left, right});
    Samples short_left = 0.5 * left;
    Samples short_right = 0.5 * right;
    short_left.resize(72000);
    short_right.resize(72000);
    write_wav(quiet, {short_left, short_right});
    write_wav(mono, {left});
  }
};

TEST(Compare, audio_by_numbers) {
  const Pieces pieces;
  const json c = compared(pieces.loud, pieces.quiet);
  const double half_db = 20 * std::log10(2);
  EXPECT_EQ(c["kind"], "audio");
  EXPECT_EQ(c["identical"], false);
  EXPECT_EQ(c["a"]["frames"], 96000);
  EXPECT_EQ(c["b"]["duration_s"], 1.5);
  EXPECT_EQ(c["compared"]["frames"], 72000);
  EXPECT_EQ(c["compared"]["channels"], 2);
  EXPECT_NEAR(c["a"]["loudness_lufs"], 20 * std::log10(0.2), 0.1);
  EXPECT_NEAR(c["loudness_difference_lu"], -half_db, 0.05);
  EXPECT_NEAR(c["a"]["sample_peak"], 0.21, 0.005);
  EXPECT_NEAR(c["log_mel_db"], half_db, 0.01);
  EXPECT_NEAR(c["spectral_convergence"], 0.5, 1e-3);
  EXPECT_NEAR(c["envelope_db"], half_db, 1e-3);
  EXPECT_EQ(c["windows"].size(), 4u);
  EXPECT_TRUE(c["si_sdr_db"].is_null()) << c["si_sdr_db"];  // a factor alone
}

TEST(Compare, audio_as_a_table) {
  const Pieces pieces;
  EXPECT_THAT(table(pieces.loud, pieces.quiet),
              AllOf(HasSubstr("length, s"), HasSubstr("2.000     1.500    -0.500"), HasSubstr("LUFS"),
                    HasSubstr("A goes on after that"), HasSubstr("log-mel distance"), HasSubstr("6.02"),
                    HasSubstr("SI-SDR                       inf  dB"), Not(HasSubstr("is the same"))));
  EXPECT_THAT(table(pieces.loud, pieces.loud), AllOf(HasSubstr("inf"), HasSubstr("every sample is the same")));
  EXPECT_THAT(table(pieces.mono, pieces.loud), AllOf(HasSubstr("mono"), HasSubstr("B is stereo and was mixed down")));
}

TEST(Compare, a_file_with_itself_is_infinitely_alike) {
  const Pieces pieces;
  const json c = compared(pieces.loud, pieces.loud);
  EXPECT_EQ(c["identical"], true);
  EXPECT_EQ(c["log_mel_db"], 0);
  ASSERT_TRUE(c.contains("si_sdr_db"));
  EXPECT_TRUE(c["si_sdr_db"].is_null());
}

TEST(Compare, silence_has_no_loudness_and_nothing_in_common) {
  const Pieces pieces;
  write_wav(pieces.folder / "silence.wav", {Samples(96000), Samples(96000)});
  const json c = compared(pieces.loud, pieces.folder / "silence.wav");
  EXPECT_TRUE(c["b"]["loudness_lufs"].is_null());
  EXPECT_FALSE(c.contains("si_sdr_db"));
  EXPECT_FALSE(c.contains("loudness_difference_lu"));
  EXPECT_THAT(table(pieces.loud, pieces.folder / "silence.wav"), HasSubstr("-inf"));
}

TEST(Compare, what_comes_through_a_pipe_is_read) {
  const Pieces pieces;
  const std::string here = pieces.folder.path().string();
  json file = compared(pieces.loud, pieces.quiet);
  for (const char* source : {"cat loud.wav | heartmula compare - quiet.wav --json",
                             "heartmula compare <(cat loud.wav) <(cat quiet.wav) --json"}) {
    json piped = json::parse(run_script(source, here).out);
    for (json* comparison : {&file, &piped}) {
      for (const char* side : {"a", "b"}) (*comparison)[side].erase("file");
    }
    EXPECT_EQ(piped, file) << source;
  }
  const Finished cut = run_script("head -c 100000 loud.wav | heartmula compare - loud.wav", here);
  EXPECT_EQ(cut.exit_code, 0);
  EXPECT_THAT(cut.err, HasSubstr("standard input: is cut short after 0.2"));
  EXPECT_THAT(run_script("head -c 5 loud.wav | heartmula compare - loud.wav", here).err,
              HasSubstr("standard input: not an audio file"));
}

TEST(Compare, what_libraries_print_is_a_line_of_debug) {
  const Pieces pieces;
  {
    AudioWriter writer(pieces.folder / "song.mp3", AudioFormat::kMp3, SampleFormat::kF32);
    const Samples samples = sine(0.2, 997, 2);
    writer.write(samples, samples);
    writer.finish({});
  }
  const std::string song = contents(pieces.folder / "song.mp3");
  const fs::path cut = pieces.folder.write("cut.mp3", song.substr(0, song.size() / 2));  // libmpg123 warns of it
  EXPECT_EQ(lines_of(succeeds({"compare", cut, pieces.loud}).err).size(), 1u);
  EXPECT_THAT(succeeds({"compare", cut, pieces.loud}).err,
              StartsWith("heartmula: warning: " + cut.string() + ": is cut"));
  EXPECT_THAT(succeeds({"--debug", "compare", cut, pieces.loud}).err, StartsWith("heartmula: debug: " + cut.string()));
}

TEST(Compare, what_cannot_be_compared_is_refused) {
  const Pieces pieces;
  const auto refuses = [&](const fs::path& a, const fs::path& b) { return refused({"compare", a, b}, 2); };
  EXPECT_THAT(refuses(pieces.loud, "/no/such.wav"), AllOf(HasSubstr("/no/such.wav"), HasSubstr("no such file")));
  EXPECT_THAT(refuses(pieces.folder.path(), pieces.loud), HasSubstr("folder"));
  const fs::path text = pieces.folder.write("text.wav", "these are no samples, whatever the name says");
  EXPECT_THAT(refuses(pieces.loud, text), AllOf(HasSubstr("text.wav"), HasSubstr("not an audio file")));
  EXPECT_THAT(refuses(pieces.folder.write("empty.wav", ""), pieces.loud), HasSubstr("empty.wav"));
  write_wav(pieces.folder / "cd.wav", {sine(0.1, 440, 1, 44100)}, 44100);
  EXPECT_THAT(refuses(pieces.loud, pieces.folder / "cd.wav"), AllOf(HasSubstr("44100 Hz"), HasSubstr("48000 Hz")));
  write_wav(pieces.folder / "surround.wav", {sine(0.1, 440, 1), sine(0.1, 440, 1), sine(0.1, 440, 1)});
  EXPECT_THAT(refuses(pieces.folder / "surround.wav", pieces.loud), HasSubstr("3 channels"));
  Samples broken = sine(0.1, 440, 1);
  broken[7] = NAN;
  write_wav(pieces.folder / "broken.wav", {broken});
  EXPECT_THAT(refuses(pieces.folder / "broken.wav", pieces.loud), HasSubstr("sample 7 is not a finite number"));
  write_wav(pieces.folder / "tiny.wav", {sine(0.1, 440, 0.001)});
  EXPECT_THAT(refuses(pieces.loud, pieces.folder / "tiny.wav"), AllOf(HasSubstr("tiny.wav"), HasSubstr("48 samples")));
}

TEST(Compare, a_file_that_was_cut_short_is_told) {
  const Pieces pieces;
  for (const char* name : {"whole.wav", "whole.flac", "whole.ogg", "whole.opus", "whole.mp3"}) {
    const fs::path whole = pieces.folder / name;
    if (whole.extension() == ".wav") {
      write_wav(whole, {sine(0.1, 440, 1)});
    } else {
      const AudioFormat format = audio_format_of(whole);
      AudioWriter writer(whole, format, resolve_sample_format(format, {}));
      const Samples samples = noise(0.1, 48000, 1);
      writer.write(samples, samples);
      writer.finish({});
    }
    EXPECT_EQ(succeeds({"compare", whole, whole}).err, "");
    const std::string bytes = contents(whole);
    const fs::path cut = pieces.folder.write("cut" + whole.extension().string(), bytes.substr(0, bytes.size() / 2));
    const Finished finished = succeeds({"compare", whole, cut});
    EXPECT_THAT(finished.err, AllOf(HasSubstr(cut.string()), HasSubstr("is cut short after 0.")));
  }
}

TEST(Compare, a_wrong_length_of_the_whole_wav_is_no_loss) {
  const Pieces pieces;
  std::string bytes = contents(pieces.loud);
  bytes[4] = static_cast<char>(bytes[4] + 8);  // some writers count the first eight bytes, too
  const fs::path odd = pieces.folder.write("odd.wav", bytes);
  EXPECT_EQ(succeeds({"compare", pieces.loud, odd}).err, "");
}

TEST(Compare, songs_and_their_codes) {
  const TemporaryFolder folder;
  const auto make = [&](const char* seed, int64_t ms) {
    const fs::path song = folder / (std::string(seed) + ".flac");
    succeeds(generate(song, {"--model_path", endless_checkpoint(), "--seed", seed, "--save_codes",
                             song.string() + ".codes", "--max_audio_length_ms", std::to_string(ms)}));
    return song;
  };
  const fs::path one = make("1", 800);
  const fs::path two = make("2", 960);
  const fs::path codes_one = one.string() + ".codes";
  const fs::path codes_two = two.string() + ".codes";

  const json same = compared(codes_one, codes_one);
  EXPECT_EQ(same["kind"], "codes");
  EXPECT_EQ(same["identical"], true);
  EXPECT_EQ(same["equal_codes_percent"], json(std::vector<double>(8, 100.0)));
  EXPECT_THAT(table(codes_one, codes_one), HasSubstr("every code is the same"));

  const json different = compared(codes_one, codes_two);
  EXPECT_EQ(different["a"]["frames"], 11);
  EXPECT_EQ(different["b"]["frames"], 13);
  EXPECT_EQ(different["compared"]["frames"], 11);
  EXPECT_EQ(different["identical"], false);
  EXPECT_EQ(different["first_difference"], 0);
  EXPECT_LT(different["equal_frames"], 11);
  EXPECT_THAT(table(codes_one, codes_two), AllOf(HasSubstr("frame 0"), HasSubstr("equal codes, %")));

  EXPECT_EQ(compared(one, two)["compared"]["frames"], 11 * 3840);
  EXPECT_THAT(refused({"compare", codes_one, one}, 2), AllOf(HasSubstr("codes file"), HasSubstr("heartmula decode")));
  const fs::path broken = folder.write("broken.safetensors", "no codes");
  EXPECT_THAT(refused({"compare", broken, codes_one}, 2), HasSubstr("broken.safetensors"));
}

TEST(Abx, writes_a_page_and_warns_of_what_would_give_the_answer_away) {
  const TemporaryFolder folder;
  for (const auto& [system, amplitude] : {std::pair("base", 0.1), {"tuned", 0.2}}) {
    fs::create_directories(folder.path() / "pieces" / system);
    write_wav(folder.path() / "pieces" / system / "one.wav", {sine(amplitude, 997, 1)});
  }
  write_wav(folder / "pieces/base/two.wav", {sine(0.1, 997, 1)});
  for (const char* system : {"base", "tuned"}) write_wav(folder / "pieces" / system / "same.wav", {sine(0.1, 997, 1)});
  write_wav(folder / "pieces/base/mono.wav", {sine(0.1, 997, 1)});
  write_wav(folder / "pieces/tuned/mono.wav", {sine(0.1, 997, 1.5), sine(0.1, 997, 1.5)});
  const Finished made = succeeds({"abx", folder / "pieces", "--output", folder / "page.html", "--trials", "4"});
  EXPECT_THAT(made.out, AllOf(HasSubstr("page.html"), HasSubstr("4 trials with 3 pieces of base and tuned")));
  EXPECT_THAT(made.err, AllOf(HasSubstr("6.0 LU louder"), HasSubstr("two.wav: left out"),
                              HasSubstr("tuned/mono.wav is 0.50 s longer"), HasSubstr("same.wav are the same"),
                              Not(HasSubstr("mono.wav is 3.0 LU"))));
  EXPECT_THAT(contents(folder / "page.html"), StartsWith("<!DOCTYPE html>"));
  succeeds({"abx", "pieces"}, folder.path());
  EXPECT_TRUE(fs::exists(folder / "abx.html"));

  EXPECT_THAT(refused({"abx", folder / "nowhere"}, 2), HasSubstr("nowhere"));
  EXPECT_THAT(refused({"abx", folder / "pieces", "--output", folder / "no/page.html"}, 2), HasSubstr("no folder"));
  EXPECT_THAT(refused({"abx", folder / "pieces", "--trials", "0"}, 2), HasSubstr("--trials"));
}

}  // namespace
}  // namespace heartmula

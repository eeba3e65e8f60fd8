// The commands on an emulated GPU: where stages compute, and what is said where they cannot. A window of the codec
// takes the emulation minutes, so that the codec is on the CPU here.
#include <cstdlib>

#include "cli/testing.h"
#include "song/codes_file.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

/// A variable of the environment while it lives.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Setting() { ::unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

constexpr const char* kGpu = "HEARTMULA_EMULATED_GPU";
constexpr const char* kMemory = "HEARTMULA_EMULATED_GPU_MEMORY";
constexpr const char* kLost = "HEARTMULA_EMULATED_GPU_LOST";

const Arguments kFramesOnCard = {"--mula_device", "cuda", "--codec_device", "cpu", "--progress", "none"};

/// What a song is refused with, and nothing of which is left.
std::string song_refused(const Arguments& more) {
  const TemporaryFolder folder;
  const std::string why = refused(generate(folder / "song.wav", more + Arguments{"--progress", "none"}), 2);
  EXPECT_TRUE(files_in(folder.path()).empty());
  return why;
}

TEST(CudaCommands, devices_lists_the_card_or_says_why_there_is_none) {
  EXPECT_THAT(succeeds({"devices"}).out,
              AllOf(HasSubstr("cuda:0    Emulated GPU, compute capability 9.0"), HasSubstr("GB/s")));
  const json devices = json::parse(succeeds({"devices", "--json"}).out);
  EXPECT_EQ(devices["cuda"]["built"], true);
  EXPECT_EQ(devices["cuda"]["devices"][0]["usable"], true);
  EXPECT_GT(devices["cuda"]["devices"][0]["read_bytes_per_second"], 0);
  {
    const Setting none(kGpu, "none");
    EXPECT_THAT(succeeds({"devices"}).out, AllOf(HasSubstr("there is no NVIDIA GPU"), Not(HasSubstr("cuda:0"))));
  }
  const Setting old(kGpu, "old_driver");
  EXPECT_THAT(succeeds({"devices"}).out, HasSubstr("install a newer driver"));
}

TEST(CudaCommands, a_card_that_cannot_be_had_is_one_line_and_never_the_cpu) {
  EXPECT_THAT(song_refused({"--device", "cuda:7"}),
              AllOf(HasSubstr("--device cuda:7: there is no such card"), HasSubstr("cuda:0 (Emulated GPU)")));
  EXPECT_THAT(song_refused({"--device", "cuda", "--cuda_weights", "map"}), HasSubstr("--cuda_weights map"));
  EXPECT_THAT(song_refused({"--device", "cuda", "--overlap", "2"}), HasSubstr("--overlap 2"));
  {
    const Setting none(kGpu, "none");
    EXPECT_THAT(song_refused({"--device", "cuda"}),
                AllOf(HasSubstr("--device cuda: there is no NVIDIA GPU"), HasSubstr("--device cpu")));
    EXPECT_THAT(song_refused({"--codec_device", "cuda:0"}), HasSubstr("--codec_device cuda:0: there is no NVIDIA GPU"));
    EXPECT_THAT(refused({"verify", kTinyCheckpoint, "--device", "cuda"}, 2), HasSubstr("--device cuda"));
    EXPECT_THAT(refused({"bench", "--synthetic", kTinyCheckpoint, "--device", "cuda"}, 2), HasSubstr("--device cuda"));
  }
  {
    const Setting old(kGpu, "old_driver");
    EXPECT_THAT(song_refused({"--device", "cuda"}), HasSubstr("install a newer driver"));
  }
  const Setting small(kMemory, "200000000");
  EXPECT_THAT(
      song_refused({"--mula_device", "cuda", "--codec_device", "cpu"}),
      AllOf(HasSubstr("not enough memory on cuda:0 (Emulated GPU)"), HasSubstr("0.20 of its 0.20 GB are free")));
}

TEST(CudaCommands, auto_is_the_cpu_where_no_card_will_do_and_says_so_if_there_is_one) {
  const TemporaryFolder folder;
  const Arguments arguments = generate(folder / "song.wav", {"--progress", "none"});
  {
    const Setting none(kGpu, "none");
    EXPECT_THAT(succeeds(arguments).err, Not(HasSubstr("GPU")));
  }
  const Setting small(kMemory, "200000000");
  EXPECT_THAT(succeeds(arguments).err, AllOf(HasSubstr("cuda:0 (Emulated GPU) has 0.2 GB free"), HasSubstr("CPU")));
  EXPECT_THAT(json_of(folder / "song.wav.json")["result"]["device"].get<std::string>(), HasSubstr("cpu ("));
}

TEST(CudaCommands, songs_side_by_side_and_drafted_ones_are_the_same_on_a_card) {
  const TemporaryFolder folder;
  const Arguments song = {"generate",    "--model_path", kTinyCheckpoint,         "--lyrics_text", "la",
                          "--tags_text", "piano",        "--max_audio_length_ms", "400",           "--codec_steps",
                          "1",           "--save_path",  folder / "song.wav",     "--save_codes"};
  const auto codes_of = [&](const std::string& name) { return read_codes(folder / name).frames; };
  const auto make = [&](const std::string& name, const Arguments& more) {
    succeeds(song + Arguments{folder / name} + kFramesOnCard + more);
  };
  make("alone", {"--seed", "8"});
  make("together-{n}", {"--seed", "7", "--songs", "2"});
  EXPECT_EQ(codes_of("together-2"), codes_of("alone"));
  for (const Arguments& drafter : {Arguments{"riders", "--draft_frames", "3"}, {"bigram", "--draft_frames", "0"}}) {
    make("drafted", Arguments{"--seed", "8", "--drafter"} + drafter);
    EXPECT_EQ(codes_of("drafted"), codes_of("alone")) << drafter.front();
  }
}

TEST(CudaCommands, a_song_says_which_device_made_which_stage) {
  const TemporaryFolder folder;
  Arguments arguments = generate(folder / "song.wav", kFramesOnCard + Arguments{"--profile", folder / "trace.json"});
  succeeds(arguments);
  const json result = json_of(folder / "song.wav.json")["result"];
  EXPECT_THAT(result["devices"]["language_model"].get<std::string>(), HasSubstr("cuda:0 (Emulated GPU"));
  EXPECT_THAT(result["devices"]["codec"].get<std::string>(), HasSubstr("cpu ("));
  EXPECT_THAT(result["device"].get<std::string>(), AllOf(HasSubstr("cuda:0"), HasSubstr("codec on cpu")));
  EXPECT_EQ(result["overlap"]["codec_threads"], json());
  EXPECT_EQ(result["memory_plan"]["language_model"]["device"], "cuda:0");
  EXPECT_GT(result["memory_plan"]["cards"]["cuda:0"]["peak_bytes"], 0);
  std::set<std::string> devices;
  const json trace = json_of(folder / "trace.json");
  for (const json& event : trace["traceEvents"]) {
    if (event["name"] == "device") devices.insert(event["args"]["name"].get<std::string>().substr(0, 3));
  }
  EXPECT_EQ(devices, (std::set<std::string>{"cpu", "cud"}));
}

TEST(CudaCommands, a_card_that_is_lost_midway_leaves_the_codes_and_the_song_goes_on_without_it) {
  const TemporaryFolder folder;
  const Arguments song = generate(folder / "song.wav", {"--ignore_eos", "--max_audio_length_ms", "2000"});
  std::string why;
  for (int launches = 20; why.empty() && launches < 1000; launches += 15) {
    const Setting lost(kLost, std::to_string(launches));
    const Finished finished = run_program(song + kFramesOnCard);
    ASSERT_EQ(finished.exit_code, 1) << "the song was made before the card was lost: " << finished.err;
    if (complaint(finished).find("--load_codes") != std::string::npos) why = complaint(finished);
  }
  EXPECT_THAT(why, AllOf(HasSubstr("the GPU was lost"), HasSubstr("frames (")));
  const std::string codes = folder / "song.wav.codes.safetensors";
  EXPECT_THAT(files_in(folder.path()), testing::Contains(EndsWith("song.wav.codes.safetensors")));
  succeeds(
      {"generate", "--load_codes", codes, "--save_path", folder / "song.wav", "--device", "cpu", "--progress", "none"});
  EXPECT_EQ(json_of(folder / "song.wav.json")["result"]["frames"], 26);
}

TEST(CudaCommands, bench_measures_the_card) {
  const Arguments flags = {"--songs", "1", "--context", "4", "--repeats", "1", "--json"};
  const json result = json::parse(
      succeeds(Arguments{"bench", "--synthetic", kTinyCheckpoint, "--device", "cuda", "--stage", "frame"} + flags).out);
  EXPECT_EQ(result["machine"]["device"], "cuda:0");
  EXPECT_EQ(result["machine"]["cpu"], "Emulated GPU");
  EXPECT_GT(result["machine"]["read_gb_s"], 0);
  EXPECT_FALSE(result["machine"].contains("bf16_gflop_s"));
  ASSERT_EQ(result["stages"].size(), 1u);
  EXPECT_GT(result["stages"][0]["fraction"], 0);
}

TEST(CudaCommands, convert_says_that_it_packs_for_cpus) {
  const TemporaryFolder folder;
  EXPECT_THAT(
      refused({"convert", "--model_path", kTinyCheckpoint, "--save_path", folder / "packed", "--device", "cuda"}, 2),
      HasSubstr("convert packs for CPUs alone"));
}

}  // namespace
}  // namespace heartmula

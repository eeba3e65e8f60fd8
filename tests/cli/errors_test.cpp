// Whatever is wrong: one line that says so, the right exit code, and nothing left behind.
#include <sys/mount.h>
#include <sys/stat.h>

#include "cli/testing.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

#if defined(HEARTMULA_SANITIZED)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

/// Lets `spoil` break a copy of the checkpoint, and returns the complaint of `generate`.
template <typename Spoil>
std::string complaint_about(const Spoil& spoil, int exit_code = 2) {
  const TemporaryFolder folder;
  const TemporaryFolder songs;
  const std::string checkpoint = copy_of_checkpoint(folder);
  spoil(fs::path(checkpoint));
  std::string message = refused(
      Arguments{"generate"} + song_flags(800, checkpoint) + Arguments{"--save_path", songs / "song.wav"}, exit_code);
  EXPECT_THAT(files_in(songs.path()), IsEmpty()) << message;
  return message;
}

std::string complaint_about_flags(const Arguments& flags, int exit_code = 2) {
  const TemporaryFolder songs;
  std::string message = refused(generate(songs / "song.wav", flags), exit_code);
  EXPECT_THAT(files_in(songs.path()), IsEmpty()) << message;
  return message;
}

fs::path lm_file(const fs::path& checkpoint) {
  return checkpoint / kLmFolder / "model.safetensors";
}

TEST(BrokenCheckpoint, missing_folder_is_named) {
  EXPECT_THAT(complaint_about_flags({"--model_path", "/no/such/folder"}),
              AllOf(HasSubstr("/no/such/folder"), HasSubstr("no such folder"), HasSubstr("--model_path")));
}

TEST(BrokenCheckpoint, missing_parts_are_all_named) {
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) {
                fs::remove_all(ckpt / kCodecFolder);
                fs::remove(ckpt / "tokenizer.json");
                fs::remove(ckpt / "gen_config.json");
              }),
              AllOf(HasSubstr("HeartCodec-oss/"), HasSubstr("tokenizer.json"), HasSubstr("gen_config.json")));
}

TEST(BrokenCheckpoint, missing_config_is_named) {
  for (const std::string& part : {kLmFolder, kCodecFolder}) {
    EXPECT_THAT(complaint_about([&](const fs::path& ckpt) { fs::remove(ckpt / part / "config.json"); }),
                AllOf(HasSubstr(part + "/config.json"), HasSubstr("no such file")));
  }
}

TEST(BrokenCheckpoint, missing_weights_are_named) {
  EXPECT_THAT(complaint_about([&](const fs::path& ckpt) { fs::remove(lm_file(ckpt)); }),
              AllOf(HasSubstr(kLmFolder), HasSubstr("model.safetensors")));
}

TEST(BrokenCheckpoint, missing_shard_is_named) {
  EXPECT_THAT(complaint_about([&](const fs::path& ckpt) {
                nlohmann::json index;
                index["weight_map"]["muq_linear.weight"] = "model-00007-of-00009.safetensors";
                std::ofstream(ckpt / kLmFolder / "model.safetensors.index.json") << index;
              }),
              AllOf(HasSubstr("model-00007-of-00009.safetensors"), HasSubstr("index.json")));
}

TEST(BrokenCheckpoint, truncated_weights_are_refused) {
  for (const std::string& part : {kLmFolder, kCodecFolder}) {
    EXPECT_THAT(complaint_about([&](const fs::path& ckpt) {
                  const fs::path file = ckpt / part / "model.safetensors";
                  fs::resize_file(file, fs::file_size(file) - 1000);
                }),
                HasSubstr(part + "/model.safetensors"));
  }
  for (const size_t size : {0, 5, 8, 100}) {
    EXPECT_THAT(complaint_about([&](const fs::path& ckpt) { fs::resize_file(lm_file(ckpt), size); }),
                HasSubstr("model.safetensors"));
  }
}

TEST(BrokenCheckpoint, a_weight_of_integers_is_refused_by_name) {
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) {
                edit_header(lm_file(ckpt), [](nlohmann::json& header) { header["audio_head"]["dtype"] = "I32"; });
              }),
              AllOf(HasSubstr("audio_head"), HasSubstr("I32"), HasSubstr("model.safetensors")));
}

TEST(BrokenCheckpoint, a_wrong_shape_is_told_with_both_shapes_and_the_config) {
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) {
                edit_json(ckpt / kLmFolder / "config.json",
                          [](nlohmann::json& config) { config["backbone"]["intermediate_dim"] = 96; });
              }),
              AllOf(HasSubstr("config.json"), HasSubstr("[96, 64]"), HasSubstr("[128, 64]"), HasSubstr("backbone.")));
}

TEST(BrokenCheckpoint, missing_tensors_are_named) {
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) {
                edit_header(lm_file(ckpt), [](nlohmann::json& header) {
                  header["other"] = header["audio_head"];
                  header.erase("audio_head");
                });
              }),
              AllOf(HasSubstr("audio_head"), HasSubstr("missing")));
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) {
                edit_json(ckpt / kLmFolder / "config.json",
                          [](nlohmann::json& config) { config["backbone"]["num_layers"] = 4; });
              }),
              AllOf(HasSubstr("backbone.layers.3"), HasSubstr("missing")));
}

TEST(BrokenCheckpoint, an_unknown_flavor_is_told_with_the_known_ones) {
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) {
                edit_json(ckpt / kLmFolder / "config.json", [](nlohmann::json& config) {
                  config["backbone_flavor"] = "llama-11B";
                  config.erase("backbone");
                });
              }),
              AllOf(HasSubstr("llama-11B"), HasSubstr("llama-3B"), HasSubstr("config.json")));
}

TEST(BrokenCheckpoint, broken_json_is_told_with_its_file) {
  for (const std::string file :
       {"HeartMuLa-oss-3B/config.json", "HeartCodec-oss/config.json", "gen_config.json", "tokenizer.json"}) {
    for (const std::string text : {"", "{\"a\": ", "[]", "\xff\xfe", "null"}) {
      EXPECT_THAT(complaint_about([&](const fs::path& ckpt) { std::ofstream(ckpt / file) << text; }), HasSubstr(file));
    }
  }
}

TEST(BrokenCheckpoint, a_tokenizer_of_another_kind_is_refused) {
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) {
                edit_json(ckpt / "tokenizer.json", [](nlohmann::json& config) { config["model"]["type"] = "Unigram"; });
              }),
              AllOf(HasSubstr("tokenizer.json"), HasSubstr("Unigram")));
}

TEST(BrokenCheckpoint, a_missing_field_is_named) {
  for (const std::string field : {"text_bos_id", "text_eos_id", "audio_eos_id", "empty_id"}) {
    EXPECT_THAT(complaint_about([&](const fs::path& ckpt) {
                  edit_json(ckpt / "gen_config.json", [&](nlohmann::json& config) { config.erase(field); });
                }),
                AllOf(HasSubstr("gen_config.json"), HasSubstr(field)));
  }
}

TEST(BrokenCheckpoint, ids_of_another_checkpoint_are_told) {
  for (const std::string field : {"text_bos_id", "text_eos_id", "audio_eos_id", "empty_id"}) {
    EXPECT_THAT(complaint_about([&](const fs::path& ckpt) {
                  edit_json(ckpt / "gen_config.json", [&](nlohmann::json& config) { config[field] = 128001; });
                }),
                AllOf(HasSubstr("gen_config.json: " + field + " is 128001"), HasSubstr("config.json")));
  }
}

TEST(BrokenCheckpoint, what_a_file_is_that_is_something_else_is_told) {
  const std::pair<const char*, const char*> files[] = {{"<!DOCTYPE html><html>", "a web page (HTML)"},
                                                       {"GGUF\x03", "a GGUF file"},
                                                       {"\x80\x02}q", "a PyTorch file (pickle)"},
                                                       {"Entry not found", "text, which begins \"Entry not found\""}};
  for (const auto& [bytes, what] : files) {
    EXPECT_THAT(complaint_about([&](const fs::path& ckpt) { std::ofstream(lm_file(ckpt)) << bytes; }),
                AllOf(HasSubstr("model.safetensors: is "), HasSubstr(what)));
    for (const char* file : {"HeartCodec-oss/config.json", "tokenizer.json", "gen_config.json"}) {
      EXPECT_THAT(complaint_about([&](const fs::path& ckpt) { std::ofstream(ckpt / file) << bytes; }),
                  AllOf(HasSubstr(std::string(file) + ": is "), HasSubstr(what)));
    }
  }
}

TEST(BrokenCheckpoint, a_download_that_has_not_ended_is_told_though_all_seems_there) {
  EXPECT_THAT(complaint_about([](const fs::path& ckpt) { std::ofstream(lm_file(ckpt).string() + ".aria2"); }),
              AllOf(HasSubstr("model.safetensors.aria2"), HasSubstr("has not ended")));
}

TEST(BrokenCheckpoint, data_of_zeros_and_no_numbers_are_told_with_file_and_tensor) {
  for (const std::string& part : {kLmFolder, kCodecFolder}) {
    for (const bool zeros : {true, false}) {
      EXPECT_THAT(complaint_about([&](const fs::path& ckpt) {
                    const fs::path file = ckpt / part / "model.safetensors";
                    std::string bytes = contents(file);
                    const size_t half = bytes.size() / 2;
                    bytes.replace(half, std::string::npos, bytes.size() - half, zeros ? '\0' : '\xff');
                    std::ofstream(file, std::ios::binary) << bytes;
                  }),
                  AllOf(HasSubstr(part + "/model.safetensors: tensor "),
                        HasSubstr(zeros ? "is all zeros" : "not finite numbers")));
    }
  }
}

TEST(BrokenCheckpoint, a_file_in_place_of_the_folder_is_told) {
  const std::string file = kTinyCheckpoint + "/tokenizer.json";
  const std::string is_file = ": is a file, not a folder";
  EXPECT_THAT(complaint_about_flags({"--model_path", file}), HasSubstr(file + is_file));
  EXPECT_THAT(complaint_about_flags({"--model_path", file + "/below"}),
              HasSubstr("no such folder, for " + file + " is a file"));
  for (const char* flag : {"--mula_path", "--codec_path", "--lora"}) {
    EXPECT_THAT(complaint_about_flags({flag, file}), HasSubstr(flag + std::string(" ") + file + is_file));
  }
  for (const char* command : {"abx", "verify"}) EXPECT_EQ(refused({command, file}, 2), file + is_file);
  EXPECT_EQ(refused(generate(file + "/song.wav"), 2), file + "/song.wav: " + file + " is a file, not a folder");
  EXPECT_EQ(refused({"convert", "--model_path", kTinyCheckpoint, "--save_path", file + "/packed"}, 2),
            file + "/packed: " + file + " is a file, not a folder");
}

TEST(WrongFlags, another_version_is_told_with_the_folder_that_it_needs) {
  EXPECT_THAT(complaint_about_flags({"--version", "9B"}), HasSubstr("HeartMuLa-oss-9B"));
}

TEST(WrongFlags, numbers_out_of_range_are_told_with_flag_and_value) {
  struct Flag {
    std::string name;
    Arguments values;
  };
  const Arguments no_integers = {"", "text", "1.5", "nan", "inf", "1e400", "99999999999999999999999999"};
  const Arguments no_numbers = {"", "text", "nan", "inf", "-inf", "1e400", "-1"};
  const std::vector<Flag> flags = {
      {"max_audio_length_ms", Arguments{"-1", "9223372036854775807"} + no_integers},
      {"topk", Arguments{"0", "-1", "9223372036854775807"} + no_integers},
      {"codec_steps", Arguments{"0", "-1", "1000000000"} + no_integers},
      {"threads", Arguments{"-1", "100000", "4294967296"} + no_integers},
      {"continue_from_ms", Arguments{"-1", "9223372036854775807"} + no_integers},
      {"temperature", Arguments{"0", "1e9", "1e-300"} + no_numbers},
      {"cfg_scale", Arguments{"1e9"} + no_numbers},
      {"codec_guidance_scale", Arguments{"1e9"} + no_numbers},
      {"seed", Arguments{"-2", "18446744073709551616"} + no_integers},
  };
  for (const Flag& flag : flags) {
    for (const std::string& value : flag.values) {
      SCOPED_TRACE(flag.name + " " + value);
      const std::string message = complaint_about_flags({"--" + flag.name, value});
      EXPECT_THAT(message, HasSubstr("--" + flag.name));
      if (!value.starts_with("1e") && !value.starts_with("9")) {
        EXPECT_THAT(message, HasSubstr(value));
      }
    }
  }
}

TEST(WrongFlags, cpus_that_cannot_be_had_are_told_with_those_that_can) {
  EXPECT_THAT(complaint_about_flags({"--cpus", "all"}), AllOf(HasSubstr("--cpus all"), HasSubstr("0-3,8")));
  EXPECT_THAT(complaint_about_flags({"--cpus", "0-60000"}), AllOf(HasSubstr("--cpus 0-60000"), HasSubstr("no cpu")));
  EXPECT_THAT(complaint_about_flags({"--cpus", "65536"}), HasSubstr("--cpus 65536"));
  EXPECT_THAT(complaint_about_flags({"--cpus", "fastest", "--threads", "1024"}),
              AllOf(HasSubstr("--threads 1024"), HasSubstr("--cpus fastest")));
}

TEST(WrongFlags, the_longest_and_the_shortest_settings_are_taken_seriously) {
  EXPECT_THAT(complaint_about_flags({"--max_audio_length_ms", "1000000000000"}), HasSubstr("context"));
}

TEST(WrongFlags, words_out_of_the_list_are_told_with_the_list) {
  EXPECT_THAT(complaint_about_flags({"--mula_dtype", "int8"}), AllOf(HasSubstr("--mula_dtype"), HasSubstr("int8")));
  EXPECT_THAT(complaint_about_flags({"--codec_dtype", ""}), HasSubstr("--codec_dtype"));
  EXPECT_THAT(complaint_about_flags({"--format", "tape"}), AllOf(HasSubstr("tape"), HasSubstr("flac")));
  EXPECT_THAT(complaint_about_flags({"--sample_format", "s8"}), AllOf(HasSubstr("s8"), HasSubstr("s24")));
  EXPECT_THAT(complaint_about_flags({"--format", "mp3", "--sample_format", "s24"}), HasSubstr("mp3"));
  EXPECT_THAT(complaint_about_flags({"--lazy_load", "perhaps"}), AllOf(HasSubstr("--lazy_load"), HasSubstr("perhaps")));
  EXPECT_THAT(complaint_about_flags({"--progress", "dots"}), AllOf(HasSubstr("--progress"), HasSubstr("lines")));
}

TEST(WrongFlags, other_devices_are_refused_with_those_of_this_build) {
  EXPECT_THAT(complaint_about_flags({"--mula_device", "cuda"}),
              AllOf(HasSubstr("--mula_device cuda"), AnyOf(HasSubstr("built without CUDA"), HasSubstr("no NVIDIA")),
                    HasSubstr("device cpu")));
  EXPECT_THAT(complaint_about_flags({"--codec_device", "cuda:0"}),
              AllOf(HasSubstr("--codec_device cuda:0"), HasSubstr("device cpu")));
  EXPECT_THAT(complaint_about_flags({"--device", "gpu"}), AllOf(HasSubstr("--device gpu"), HasSubstr("cuda:N")));
}

TEST(WrongFlags, unknown_flags_and_commands_are_named) {
  EXPECT_THAT(complaint_about_flags({"--lyriks", "x"}), AllOf(HasSubstr("--lyriks"), HasSubstr("--help")));
  EXPECT_THAT(refused({"sing"}, 2), HasSubstr("sing"));
  EXPECT_THAT(refused({}, 2), HasSubstr("ubcommand"));
  EXPECT_THAT(complaint_about_flags({"surplus"}), HasSubstr("surplus"));
  EXPECT_THAT(complaint_about_flags({"--seed"}), HasSubstr("--seed"));
}

TEST(WrongFlags, missing_flags_are_named) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  EXPECT_THAT(refused({"generate", "--lyrics_text", "", "--tags_text", "x"}, 2, here), HasSubstr("--model_path"));
  EXPECT_THAT(refused({"generate", "--model_path", kTinyCheckpoint}, 2, here), HasSubstr("--lyrics"));
  EXPECT_THAT(refused({"generate", "--model_path", kTinyCheckpoint, "--lyrics_text", ""}, 2, here),
              HasSubstr("--tags"));
  EXPECT_THAT(refused({"decode", "--model_path", kTinyCheckpoint}, 2, here), HasSubstr("codes"));
  EXPECT_THAT(refused({"inspect"}, 2, here), HasSubstr("path"));
  EXPECT_THAT(refused({"verify"}, 2, here), HasSubstr("folder"));
  EXPECT_THAT(complaint_about_flags({"--continue_from_ms", "80"}), HasSubstr("--load_codes"));
  EXPECT_THAT(files_in(folder.path()), IsEmpty());
}

TEST(WrongFlags, a_message_is_one_line_whatever_the_names_are) {
  const TemporaryFolder folder;
  EXPECT_THAT(refused(generate(folder / "no\nsuch\x1b[31m/song.wav"), 2), HasSubstr("song.wav"));
  EXPECT_THAT(refused(generate(folder / "song.wav", {"--model_path", "/a\nb"}), 2), HasSubstr("no such folder"));
  EXPECT_THAT(refused(generate(folder / "song.wav", {"--\nx"}), 2), HasSubstr("--help"));
}

TEST(WrongText, an_argument_that_looks_like_a_missing_file_is_no_lyrics) {
  for (const std::string value : {"lyrics.txt", "./lyrics", "/tmp/no-such-lyrics", "~/lyrics", "song.lrc"}) {
    const TemporaryFolder folder;
    EXPECT_THAT(refused({"generate", "--model_path", kTinyCheckpoint, "--lyrics", value, "--tags", "x"}, 2,
                        folder.path().string()),
                AllOf(HasSubstr("--lyrics"), HasSubstr(value), HasSubstr("--lyrics_text")));
  }
}

TEST(WrongText, invalid_utf8_is_told_with_its_byte) {
  EXPECT_THAT(complaint_about_flags({"--lyrics_text", "la \xff la"}), AllOf(HasSubstr("lyrics"), HasSubstr("byte 3")));
  EXPECT_THAT(complaint_about_flags({"--tags_text", "caf\xc3"}), AllOf(HasSubstr("tags"), HasSubstr("byte 3")));
  EXPECT_THAT(complaint_about_flags({"--title", "\xed\xa0\x80"}), AllOf(HasSubstr("title"), HasSubstr("byte 0")));
  EXPECT_THAT(complaint_about_flags({"--version", "\xff"}), AllOf(HasSubstr("version"), EndsWith("byte 0")));
  const TemporaryFolder folder;
  const fs::path file = folder.write("lyrics.txt", "ok\n\xc0\xaf");
  EXPECT_THAT(refused({"generate", "--model_path", kTinyCheckpoint, "--lyrics", file, "--tags", "x"}, 2),
              AllOf(HasSubstr("lyrics.txt"), HasSubstr("byte 3: save it as UTF-8")));
  EXPECT_THAT(refused(generate(folder / "song\xff.wav"), 2), HasSubstr("save_path"));
  EXPECT_EQ(folder.file_count(), 1u);
}

TEST(WrongText, a_song_beyond_the_context_is_refused_with_a_length_that_fits) {
  const TemporaryFolder folder;
  const std::string checkpoint = copy_of_checkpoint(folder);
  edit_json(fs::path(checkpoint) / kLmFolder / "config.json",
            [](nlohmann::json& config) { config["backbone"]["max_seq_len"] = 60; });
  const fs::path song = folder / "song.wav";
  const auto with_length = [&](const std::string& ms) {
    return Arguments{"generate"} + song_flags(800, checkpoint) +
           Arguments{"--max_audio_length_ms", ms, "--save_path", song};
  };
  const std::string message = refused(with_length("60000"), 2);
  const std::string before = "--max_audio_length_ms ";
  ASSERT_THAT(message, HasSubstr(before));
  const int64_t fits = std::stoll(message.substr(message.find(before) + before.size()));
  EXPECT_GT(fits, 80);
  EXPECT_THAT(refused(with_length(std::to_string(fits + 80)), 2), HasSubstr("context"));
  EXPECT_FALSE(fs::exists(song));
  succeeds(with_length(std::to_string(fits)));
  EXPECT_THAT(refused(with_length("800") + Arguments{"--lyrics_text", std::string(1000, 'x')}, 2),
              HasSubstr("shorten the lyrics"));
}

TEST(WrongOutput, places_that_cannot_be_written_are_refused_before_the_work) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "folder.wav");
  EXPECT_THAT(refused(generate(folder / "folder.wav"), 2), AllOf(HasSubstr("folder.wav"), HasSubstr("is a folder")));
  EXPECT_THAT(refused(generate(folder / "no/song.wav"), 2), AllOf(HasSubstr("song.wav"), HasSubstr("no folder")));
  EXPECT_THAT(refused(generate(folder / "song"), 2), AllOf(HasSubstr("--format"), HasSubstr("song")));
  EXPECT_THAT(refused(generate(folder / "song.aiff"), 2), HasSubstr("song.aiff"));
  EXPECT_THAT(refused(generate(""), 2), HasSubstr("--save_path"));
  EXPECT_THAT(refused(generate(std::string(5000, 'x') + ".wav"), 2), HasSubstr("xxx.wav"));
  EXPECT_THAT(refused(generate(folder / "song.wav", {"--save_codes", folder / "no/codes"}), 2), HasSubstr("no/codes"));
  EXPECT_THAT(refused(generate(folder / "song.wav", {"--save_codes", "/dev/full"}), 2), HasSubstr("/dev/full"));
  EXPECT_THAT(refused(generate(folder / "song.wav", {"--save_codes", folder / "song.wav"}), 2),
              AllOf(HasSubstr("--save_codes"), HasSubstr("--save_path")));
  EXPECT_THAT(refused(generate("/dev/stdout", {"--format", "wav", "--json"}), 2),
              AllOf(HasSubstr("--json"), HasSubstr("/dev/stdout")));
  EXPECT_THAT(files_in(folder.path()), IsEmpty());
}

TEST(WrongOutput, a_folder_without_permission_is_refused) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_THAT(refused(generate(folder / "song.wav"), 2), HasSubstr("not writable"));
  fs::permissions(folder.path(), fs::perms::owner_all);
}

TEST(WrongOutput, a_read_only_place_is_refused) {
  EXPECT_THAT(refused(generate("/proc/song.wav"), 2), HasSubstr("/proc/song.wav"));
}

/// "PATH" in "... are in PATH: go on with ..."
std::string rescued_codes(const std::string& message) {
  const std::string before = " are in ";
  const size_t begin = message.find(before);
  if (begin == std::string::npos) {
    ADD_FAILURE() << "the message does not say where the codes are: " << message;
    return {};
  }
  return message.substr(begin + before.size(), message.find(": go on with", begin) - begin - before.size());
}

TEST(FullDisk, a_full_device_is_a_failure_and_the_codes_are_kept) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes.safetensors";
  for (const std::string format : {"wav", "flac", "ogg", "mp3"}) {
    const std::string message = refused(generate("/dev/full", {"--format", format, "--save_codes", codes}), 1);
    EXPECT_THAT(message, AllOf(HasSubstr("/dev/full"), HasSubstr("No space left"), HasSubstr("--load_codes")));
    EXPECT_EQ(rescued_codes(message), codes.string());
    EXPECT_EQ(nlohmann::json::parse(succeeds({"inspect", "--json", codes}).out)["frames"], 11);
  }
}

TEST(FullDisk, what_goes_to_a_full_standard_output_is_a_failure) {
  for (const std::string& command : {"inspect " + kTinyCheckpoint, "inspect --json " + kTinyCheckpoint}) {
    const Finished finished = run_script("heartmula " + command + " > /dev/full");
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_THAT(complaint(finished), AllOf(HasSubstr("standard output"), HasSubstr("No space left")));
  }
}

TEST(ClosedOutput, is_a_failure) {
  for (const std::string& command : {"inspect " + kTinyCheckpoint, "inspect --json " + kTinyCheckpoint}) {
    const Finished finished = run_script("heartmula " + command + " >&-");
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_THAT(complaint(finished), HasSubstr("standard output"));
  }
}

TEST(ClosedOutput, is_told_before_a_song_is_made_for_it) {
  const Finished finished = run_script("heartmula generate --model_path " + kTinyCheckpoint +
                                       " --lyrics_text la --tags_text piano --max_audio_length_ms 800 --format wav "
                                       "--progress lines --save_path /dev/stdout >&-");
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(complaint(finished), HasSubstr("/dev/stdout: Bad file descriptor"));
  EXPECT_THAT(finished.err, Not(HasSubstr("load")));
}

/// A file system of `bytes` in memory.
class SmallDisk {
 public:
  explicit SmallDisk(int64_t bytes) {
    const std::string options = "size=" + std::to_string(bytes);
    mounted_ = ::mount("tmpfs", folder_.path().c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.path().c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  const fs::path& path() const { return folder_.path(); }
  fs::path operator/(std::string_view name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
  bool mounted_ = false;
};

TEST(FullDisk, a_song_that_does_not_fit_leaves_only_its_codes) {
  const SmallDisk disk(64 * 1024);
  if (!disk.mounted()) GTEST_SKIP() << "mounting is not permitted";
  const TemporaryFolder elsewhere;
  for (const std::string name : {"song.wav", "song.flac", "song.ogg", "song.opus", "song.mp3"}) {
    const fs::path codes = elsewhere / (name + ".codes");
    const std::string message = refused(generate(disk / name, {"--save_codes", codes, "--max_audio_length_ms", "8000",
                                                               "--model_path", endless_checkpoint()}),
                                        1);
    EXPECT_THAT(message, AllOf(HasSubstr(name), HasSubstr("No space left")));
    EXPECT_EQ(rescued_codes(message), codes.string());
    EXPECT_THAT(files_in(disk.path()), IsEmpty());
    EXPECT_EQ(nlohmann::json::parse(succeeds({"inspect", "--json", codes}).out)["frames"], 101);
    const fs::path song = elsewhere / name;
    succeeds({"generate", "--load_codes", codes, "--save_path", song});
    EXPECT_EQ(json_of(song.string() + ".json")["result"]["frames"], 101);
  }
}

TEST(FullDisk, codes_that_do_not_fit_are_a_failure_that_keeps_those_before) {
  const SmallDisk disk(8 * 1024);
  if (!disk.mounted()) GTEST_SKIP() << "mounting is not permitted";
  const TemporaryFolder elsewhere;
  const fs::path codes = disk / "codes";
  const std::string message = refused(generate(elsewhere / "song.wav", {"--save_codes", codes, "--max_audio_length_ms",
                                                                        "24000", "--model_path", endless_checkpoint()}),
                                      1);
  EXPECT_THAT(message, AllOf(HasSubstr(codes.string()), HasSubstr("No space left"), HasSubstr("--load_codes")));
  EXPECT_THAT(files_in(elsewhere.path()), IsEmpty());
  EXPECT_THAT(files_in(disk.path()), testing::ElementsAre("codes"));
  const nlohmann::json inspected = nlohmann::json::parse(succeeds({"inspect", "--json", codes}).out);
  EXPECT_THAT(message, StartsWith(codes.string()));
  EXPECT_THAT(message, HasSubstr(std::to_string(inspected["frames"].get<int64_t>()) + " frames"));
}

TEST(FullDisk, a_disk_that_is_full_from_the_start_leaves_nothing) {
  const SmallDisk disk(4096);
  if (!disk.mounted()) GTEST_SKIP() << "mounting is not permitted";
  std::ofstream(disk / "filling") << std::string(4096, 'x');
  const std::string message = refused(generate(disk / "song.wav"), 1);
  EXPECT_THAT(message, HasSubstr("No space left"));
  EXPECT_THAT(files_in(disk.path()), testing::ElementsAre("filling"));
}

TEST(WrongCodes, broken_and_foreign_files_are_refused) {
  const TemporaryFolder folder;
  const TemporaryFolder songs;
  const fs::path text = folder.write("codes", "these are no codes");
  const Arguments out = {"--save_path", songs / "song.wav", "--model_path", kTinyCheckpoint};
  for (const fs::path& path : {text, fs::path("/no/such/codes"), lm_file(kTinyCheckpoint), folder.path()}) {
    EXPECT_THAT(refused(Arguments{"decode", path} + out, 2), HasSubstr(path.string()));
    EXPECT_THAT(refused(Arguments{"generate", "--load_codes", path} + out, 2), HasSubstr(path.string()));
  }
  EXPECT_THAT(files_in(songs.path()), IsEmpty());
}

TEST(WrongCodes, a_request_of_garbage_in_them_is_refused) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  succeeds(generate(folder / "song.wav", {"--save_codes", codes}));
  for (const std::string request : {"no JSON", "[]", "{\"nonsense\": 1}", "{\"topk\": -1}"}) {
    edit_header(codes, [&](nlohmann::json& header) { header["__metadata__"]["request"] = request; });
    EXPECT_THAT(refused({"decode", codes, "--save_path", folder / "new.wav"}, 2), StartsWith(codes.string()));
    EXPECT_FALSE(fs::exists(folder / "new.wav"));
  }
}

TEST(WrongCodes, continuing_beyond_their_end_is_refused_with_the_end) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  succeeds(generate(folder / "song.wav", {"--save_codes", codes}));
  EXPECT_THAT(refused({"generate", "--load_codes", codes, "--continue_from_ms", "960"}, 2),
              AllOf(HasSubstr("--continue_from_ms is 960"), HasSubstr("880 ms")));
  EXPECT_THAT(refused({"generate", "--load_codes", codes, "--max_audio_length_ms", "400"}, 2),
              AllOf(HasSubstr("880 ms"), HasSubstr("--max_audio_length_ms")));
}

TEST(WrongRequest, a_file_that_is_none_is_refused) {
  const TemporaryFolder folder;
  const Arguments before = {"generate", "--request"};
  EXPECT_THAT(refused(before + Arguments{folder / "none.json"}, 2), HasSubstr("none.json"));
  for (const std::string text :
       {"", "[]", "{\"request\": 1}", "{\"seeed\": 1}", "{\"seed\": -2}", "{\"temperature\": \"hot\"}",
        "{\"threads\": 4294967297}", "{\"lazy_load\": \"true\"}", "{\"format\": \"aac\"}"}) {
    EXPECT_THAT(refused(before + Arguments{folder.write("request.json", text)}, 2), HasSubstr("request.json")) << text;
  }
}

TEST(WrongRequest, what_a_message_quotes_is_harmless) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& text) {
    return refused({"generate", "--request", folder.write("request.json", text)}, 2);
  };
  EXPECT_THAT(message(R"({"b\ne": 1})"), HasSubstr(R"(b\x0ae)"));
  EXPECT_THAT(message("{\"\u202e\u009b31m\": 1}"), HasSubstr(R"(\u202e\u009b31m)"));
  EXPECT_LT(message("{\"" + std::string(1'000'000, 'x') + "\": 1}").size(), 1000u);
  EXPECT_LT(message("{\"format\": \"" + std::string(1'000'000, 'x') + "\"}").size(), 1000u);
}

TEST(Memory, running_out_of_it_is_one_line_and_no_crash) {
  if (kSanitized || emulated()) GTEST_SKIP() << "address space is not what the program alone takes";
  if (run_script("command -v prlimit").exit_code != 0) GTEST_SKIP() << "there is no prlimit";
  int failures = 0;
  for (const int megabytes :
       {60, 80, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 240, 280, 320, 400, 500, 700}) {
    const TemporaryFolder songs;
    const Arguments limit = {"prlimit", "--as=" + std::to_string(megabytes) + "000000"};
    const Finished finished =
        Process(limit + program(generate(songs / "song.wav", {"--threads", "2", "--codec_guidance_scale", "1.25"})))
            .wait();
    if (finished.exit_code == 127) continue;  // not even the libraries fit
    SCOPED_TRACE(std::to_string(megabytes) + " MB: " + finished.err);
    EXPECT_EQ(finished.signal, 0);
    if (finished.exit_code == 0) break;
    ++failures;
    EXPECT_EQ(finished.exit_code, 1);
    EXPECT_THAT(complaint(finished), AnyOf(HasSubstr("memory"), HasSubstr("cannot start"), HasSubstr("tokenizer")));
    for (const std::string& file : files_in(songs.path())) EXPECT_EQ(file, "song.wav.codes.safetensors");
  }
  EXPECT_GT(failures, 2);
}

}  // namespace
}  // namespace heartmula

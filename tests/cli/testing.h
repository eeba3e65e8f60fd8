// What the tests of the program share: the smallest checkpoint, whole or broken, and short songs made with it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/testing.h"
#include "cli/process.h"

namespace heartmula {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

inline const std::string kLmFolder = "HeartMuLa-oss-3B";
inline const std::string kCodecFolder = "HeartCodec-oss";

inline Arguments operator+(Arguments left, const Arguments& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

/// Flags of a song of `ms`, as short as the codec allows, except where it goes.
inline Arguments song_flags(int64_t ms = 800, const std::string& checkpoint = kTinyCheckpoint) {
  return {"--model_path",
          checkpoint,
          "--lyrics_text",
          "[verse]\nla la",
          "--tags_text",
          "piano,happy",
          "--max_audio_length_ms",
          std::to_string(ms),
          "--codec_steps",
          "1",
          "--codec_guidance_scale",
          "1",
          "--seed",
          "1"};
}

/// A text of its own among `more` takes the place of the usual one.
inline Arguments generate(const fs::path& save_path, const Arguments& more = {}) {
  Arguments flags = song_flags();
  for (const std::string flag : {"--lyrics", "--tags"}) {
    if (std::find(more.begin(), more.end(), flag) == more.end()) continue;
    const auto usual = std::find(flags.begin(), flags.end(), flag + "_text");
    flags.erase(usual, usual + 2);
  }
  return Arguments{"generate"} + flags + Arguments{"--save_path", save_path.string()} + more;
}

inline nlohmann::json json_of(const fs::path& path) {
  return nlohmann::json::parse(contents(path));
}

inline std::set<std::string> files_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) names.insert(fs::relative(entry.path(), folder).string());
  }
  return names;
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// The one line of an error at the end of the standard error, without "heartmula: ", or its message in JSON.
inline std::string complaint(const Finished& finished) {
  const std::vector<std::string> lines = lines_of(finished.err);
  const std::string prefix = "heartmula: ";
  if (!lines.empty() && lines.back().starts_with("{\"event\":\"error\"")) {
    return nlohmann::json::parse(lines.back())["message"].get<std::string>();
  }
  if (lines.empty() || !lines.back().starts_with(prefix)) {
    ADD_FAILURE() << "no complaint in: " << finished.err;
    return {};
  }
  for (size_t i = 0; i + 1 < lines.size(); ++i) {
    const bool is_note = lines[i].starts_with(prefix + "warning") || lines[i].starts_with(prefix + "info");
    EXPECT_FALSE(lines[i].starts_with(prefix) && !is_note) << finished.err;
  }
  return lines.back().substr(prefix.size());
}

/// Expects this exit code and a complaint of one line, which it returns.
inline std::string refused(const Arguments& arguments, int exit_code, const std::string& folder = {}) {
  const Finished finished = run_program(arguments, folder);
  EXPECT_EQ(finished.exit_code, exit_code) << finished.err << " signal " << finished.signal;
  EXPECT_EQ(finished.out, "");
  return complaint(finished);
}

inline Finished succeeds(const Arguments& arguments, const std::string& folder = {}) {
  Finished finished = run_program(arguments, folder);
  EXPECT_EQ(finished.exit_code, 0) << finished.err << " signal " << finished.signal;
  return finished;
}

/// Lets `change` edit the JSON in a file.
template <typename Change>
void edit_json(const fs::path& path, const Change& change) {
  nlohmann::json json = json_of(path);
  change(json);
  std::ofstream(path) << json.dump();
}

/// A copy of the checkpoint, to be broken.
inline std::string copy_of_checkpoint(const TemporaryFolder& folder) {
  const fs::path copy = folder / "ckpt";
  fs::create_directory(copy);
  for (const std::string& part : {kLmFolder, kCodecFolder}) fs::copy(fs::path(kTinyCheckpoint) / part, copy / part);
  for (const char* file : {"tokenizer.json", "gen_config.json"})
    fs::copy_file(fs::path(kTinyCheckpoint) / file, copy / file);
  return copy.string();
}

/// A copy of the checkpoint whose songs never end before --max_audio_length_ms.
inline const std::string& endless_checkpoint() {
  static const TemporaryFolder folder;
  static const std::string path = [] {
    std::string copy = copy_of_checkpoint(folder);
    edit_json(fs::path(copy) / "gen_config.json", [](nlohmann::json& config) {
      config["audio_eos_id"] = json_of(fs::path(kTinyCheckpoint) / kLmFolder / "config.json").at("audio_vocab_size");
    });
    return copy;
  }();
  return path;
}

/// Replaces the header of a safetensors file by what `change` makes of it; the data stay as they are.
template <typename Change>
void edit_header(const fs::path& path, const Change& change) {
  const std::string bytes = contents(path);
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
  change(header);
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string edited(8, '\0');
  for (size_t i = 0; i < 8; ++i) edited[i] = static_cast<char>(text.size() >> (8 * i));
  edited += text;
  edited += bytes.substr(8 + length);
  std::ofstream(path, std::ios::binary) << edited;
}

}  // namespace heartmula

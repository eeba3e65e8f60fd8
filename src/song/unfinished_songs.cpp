#include "song/unfinished_songs.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/input.h"
#include "song/settings.h"

namespace heartmula {
namespace fs = std::filesystem;

bool is_unfinished_list(const fs::path& path) {
  return path.filename().string().ends_with(".unfinished.jsonl");
}

UnfinishedSongs::UnfinishedSongs(fs::path path, bool goes_on)
    : path_(std::move(path)), lock_(path_, "--save_path"), is_worth_it_(goes_on) {
  std::error_code ignored;
  if (!goes_on && fs::exists(path_, ignored)) {
    throw user_error(
        "{}: names songs of an earlier run that were not finished: go on with them (--requests {}), or delete it",
        path_.string(), path_.string());
  }
  check_writable(path_);  // and away with what a killed program has left
}

// Paths are whole, for who goes on may stand in another folder. Text that JSON cannot hold has been refused before.
std::string UnfinishedSongs::line_of(const Request& request) {
  nlohmann::json line = to_json(request);
  const auto make_whole = [](nlohmann::json& path) {
    if (const auto text = path.get<std::string>(); !text.empty()) path = fs::absolute(expand_home(text)).string();
  };
  for (const Setting& setting : settings_table()) {
    if (!line.contains(setting.name) || !setting.type->names_files()) continue;
    nlohmann::json& value = line[setting.name];
    if (value.is_array()) {
      std::ranges::for_each(value, make_whole);
    } else {
      make_whole(value);
    }
  }
  return line.dump() + "\n";
}

void UnfinishedSongs::write() {
  const std::lock_guard lock(mutex_);
  save();
}

void UnfinishedSongs::save() {
  std::string text;
  for (const auto& [song, line] : lines_) text += line;
  write_file(path_, text);
}

void UnfinishedSongs::has_begun(size_t song, const Request& request) {
  const std::lock_guard lock(mutex_);
  lines_[song] = line_of(request);
  is_worth_it_ = true;
  try {
    save();
  } catch (const Error& error) {  // the codes are on the disk, and close() tries again
    if (!std::exchange(is_late_, true)) spdlog::warn(error.what());
  }
}

void UnfinishedSongs::is_made(size_t song) {
  const std::lock_guard lock(mutex_);
  lines_.erase(song);
  is_worth_it_ = true;
  try {
    if (!lines_.empty()) save();
  } catch (const Error& error) {
    if (!std::exchange(is_late_, true)) spdlog::warn(error.what());
  }
}

size_t UnfinishedSongs::close() {
  const std::lock_guard lock(mutex_);
  if (lines_.empty() || !is_worth_it_) {
    std::error_code ignored;
    fs::remove(path_, ignored);
    return 0;
  }
  try {
    if (is_late_) save();
  } catch (const Error& error) {
    spdlog::error(error.what());
  }
  return lines_.size();
}

}  // namespace heartmula

#include "measure/abx.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>
#include <utility>

#include "audio/audio_reader.h"
#include "audio/format.h"
#include "base/error.h"
#include "base/file.h"
#include "base/output_lock.h"
#include "base/same_file.h"
#include "measure/abx_page.h"
#include "measure/loudness.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

constexpr double kAudibleLoudnessDifference = 0.5;  // LU
constexpr double kAudibleLengthDifference = 0.1;    // seconds
constexpr std::string_view kTitle = "<title>Blind listening test</title>";
constexpr size_t kHead = 4096;       // bytes of a page, which have its title
constexpr double kBothSides = 3.01;  // LU: a mono file is played on the left and on the right

/// What browsers play.
std::string mime_type(const fs::path& path) {
  constexpr std::array<std::pair<const char*, const char*>, 7> kTypes = {{{".wav", "audio/wav"},
                                                                          {".wave", "audio/wav"},
                                                                          {".flac", "audio/flac"},
                                                                          {".ogg", "audio/ogg"},
                                                                          {".oga", "audio/ogg"},
                                                                          {".opus", "audio/ogg"},
                                                                          {".mp3", "audio/mpeg"}}};
  const std::string extension = lower_extension(path);
  for (const auto& [name, type] : kTypes) {
    if (extension == name) return type;
  }
  return "";
}

/// The entries of a folder without hidden ones, in order.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> entries;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (!entry->path().filename().string().starts_with('.')) entries.push_back(entry->path());
  }
  if (error == std::errc::not_a_directory || error == std::errc::no_such_file_or_directory) {
    throw user_error("{}: {}", folder.string(), instead_of_folder(folder));
  }
  if (error) throw user_error("{}: a folder that cannot be read: {}", folder.string(), error.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

using Pieces = std::map<std::string, fs::path>;

Pieces pieces_in(const fs::path& folder) {
  Pieces pieces;
  for (const fs::path& path : entries_of(folder)) {
    if (mime_type(path).empty()) continue;
    const auto [place, is_new] = pieces.emplace(path.stem().string(), path);
    if (!is_new) {
      throw user_error("{} and {} are the same piece: keep one of them", place->second.string(), path.string());
    }
  }
  return pieces;
}

std::array<fs::path, 2> systems_in(const fs::path& folder) {
  std::vector<fs::path> folders;
  for (const fs::path& path : entries_of(folder)) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) folders.push_back(path);
  }
  if (folders.size() != 2) {
    throw user_error("{}: holds {} folders, but must hold two, one for each system, with pieces of the same names",
                     folder.string(), folders.size());
  }
  return {folders[0], folders[1]};
}

void warn_of_unpaired(const Pieces& pieces, const Pieces& others) {
  for (const auto& [name, path] : pieces) {
    if (!others.contains(name)) spdlog::warn("{}: left out, for the other folder has no {}", path.string(), name);
  }
}

double played_loudness(const Audio& audio) {
  return integrated_loudness(audio) + (audio.channels.size() == 1 ? kBothSides : 0);
}

void check_versions(const fs::path& a, const fs::path& b) {
  const Audio audio_a = read_audio(a);
  const Audio audio_b = read_audio(b);
  if (audio_a.channels == audio_b.channels) {
    spdlog::warn("{} and {} are the same: nobody can tell them apart", a.string(), b.string());
  }
  const double longer_by = audio_a.duration_s() - audio_b.duration_s();
  if (std::fabs(longer_by) > kAudibleLengthDifference) {
    spdlog::warn("{} is {:.2f} s longer than {}: that alone may tell them apart", (longer_by > 0 ? a : b).string(),
                 std::fabs(longer_by), (longer_by > 0 ? b : a).string());
  }
  const double loudness_a = played_loudness(audio_a);
  const double loudness_b = played_loudness(audio_b);
  const double difference = std::fabs(loudness_a - loudness_b);
  if (std::isfinite(difference) && difference > kAudibleLoudnessDifference) {
    spdlog::warn("{} is {:.1f} LU louder than {}: that alone may tell them apart",
                 (loudness_a > loudness_b ? a : b).string(), difference, (loudness_a > loudness_b ? b : a).string());
  }
}

/// JSON for a script element of a page, which would end at "</script".
std::string script_json(const nlohmann::json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace)) {
    text += c == '<' ? "\\u003c" : std::string(1, c);
  }
  return text;
}

/// What is there already may only be an earlier page, and no song, codes or anything else that somebody needs.
void refuse_to_replace(const fs::path& output) {
  std::error_code ignored;
  if (!fs::is_regular_file(output, ignored) || fs::file_size(output, ignored) == 0) return;
  const std::shared_ptr<const MappedFile> there = MappedFile::open(output);
  const std::string_view text(reinterpret_cast<const char*>(there->bytes().data()), there->bytes().size());
  if (text.starts_with(kAbxPage.substr(0, kAbxPage.find('\n'))) && text.substr(0, kHead).find(kTitle) != text.npos)
    return;
  throw user_error("{}: is there already, and is no page of abx; choose another --output, or remove it",
                   output.string());
}

void write_text(AtomicFile& file, std::string_view text) {
  file.write(std::as_bytes(std::span(text)));
}

}  // namespace

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - at);
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i) group = group << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    for (size_t i = 0; i < 4; ++i) text += i <= count ? kDigits[group >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

AbxPage write_abx_page(const fs::path& folder, const fs::path& output, int trials) {
  if (trials < 1 || trials > kMostAbxTrials) {
    throw user_error("--trials is {}, but must be from 1 to {}", trials, kMostAbxTrials);
  }
  const std::array<fs::path, 2> systems = systems_in(folder);
  const std::array<Pieces, 2> pieces = {pieces_in(systems[0]), pieces_in(systems[1])};
  AbxPage page = {.systems = {systems[0].filename().string(), systems[1].filename().string()}, .pieces = {}};
  for (const auto& [name, path] : pieces[0]) {
    const auto other = pieces[1].find(name);
    if (other == pieces[1].end()) continue;
    page.pieces.push_back(name);
    for (const fs::path& version : {path, other->second}) {
      std::error_code error;
      page.audio_bytes += fs::file_size(version, error);
      if (error) throw user_error("{}: cannot be read: {}", version.string(), error.message());
    }
  }
  if (page.pieces.empty()) {
    throw user_error(
        "{} and {} have no piece in common: files of one piece have the same name and end in .wav, .flac, "
        ".ogg, .opus or .mp3",
        systems[0].string(), systems[1].string());
  }
  if (page.audio_bytes > kMostAbxBytes) {
    throw user_error("{}: the pieces have {} MB, and a page can hold {} MB: make them FLAC or Opus, shorter, or fewer",
                     folder.string(), page.audio_bytes >> 20, kMostAbxBytes >> 20);
  }
  for (const Pieces& versions : pieces) {
    for (const auto& [name, path] : versions) {
      if (same_file(output, path))
        throw user_error("{}: is one of the pieces: write the page elsewhere", output.string());
    }
  }
  refuse_to_replace(output);
  if (check_writable(output) != OutputKind::kRegular) {
    throw user_error("{}: the page can only be written to a regular file", output.string());
  }
  const OutputLock lock(output, "--output");
  warn_of_unpaired(pieces[0], pieces[1]);
  warn_of_unpaired(pieces[1], pieces[0]);
  for (const std::string& name : page.pieces) check_versions(pieces[0].at(name), pieces[1].at(name));

  constexpr std::string_view kTestMark = "@TEST@";
  constexpr std::string_view kAudioMark = "@AUDIO@";
  const size_t test = kAbxPage.find(kTestMark);
  const size_t audio = kAbxPage.find(kAudioMark, test);
  AtomicFile file(output);
  write_text(file, kAbxPage.substr(0, test));
  write_text(file, script_json({{"systems", page.systems}, {"pairs", page.pieces}, {"trials", trials}}));
  write_text(file, kAbxPage.substr(test + kTestMark.size(), audio - test - kTestMark.size()));
  for (size_t piece = 0; piece < page.pieces.size(); ++piece) {
    for (size_t system = 0; system < systems.size(); ++system) {
      const fs::path& path = pieces[system].at(page.pieces[piece]);
      write_text(file, fmt::format("<script type=\"text/plain\" id=\"audio-{}-{}\">data:{};base64,{}</script>\n", piece,
                                   system, mime_type(path), base64(read_file(path))));
    }
  }
  write_text(file, kAbxPage.substr(audio + kAudioMark.size()));
  file.commit(/*sync=*/false);
  return page;
}

}  // namespace heartmula

#include "serve/audio_shelf.h"

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "audio/audio_reader.h"
#include "audio/audio_writer.h"
#include "base/error.h"
#include "measure/song_picture.h"
#include "serve/route.h"
#include "song/song_output.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFormat = "flac";
constexpr size_t kMostConversions = 100;  // that are kept
constexpr size_t kSamplesPerPiece = 48000;

std::optional<std::shared_ptr<const MappedFile>> opened(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  return MappedFile::open(path);
}

template <typename Sink>
void in_pieces(const Audio& audio, const Sink& sink) {
  const std::span<const float> left = audio.channels.front();
  const std::span<const float> right = audio.channels.back();
  for (size_t at = 0; at < left.size(); at += kSamplesPerPiece) {
    const size_t count = std::min(kSamplesPerPiece, left.size() - at);
    sink(left.subspan(at, count), right.subspan(at, count));
  }
}

}  // namespace

AudioShelf::AudioShelf(fs::path folder, JobStore& store, bool in_database)
    : folder_(std::move(folder)), store_(store), in_database_(in_database) {
  for (const char* name : {"songs", "unfinished", "converted"}) {
    std::error_code error;
    fs::create_directories(folder_ / name, error);
    if (error) throw user_error("{}: {}", (folder_ / name).string(), error.message());
  }
}

fs::path AudioShelf::unfinished_path(const Lease& lease) const {
  return folder_ / "unfinished" / (lease.id + "-" + std::to_string(lease.attempt) + "." + kFormat);
}

fs::path AudioShelf::live_path(const std::string& id) const {
  return folder_ / "unfinished" / (id + ".s16");
}

fs::path AudioShelf::song_path(const std::string& id) const {
  return folder_ / "songs" / (id + "." + kFormat);
}

fs::path AudioShelf::converted_path(const std::string& id, const std::string& extension) const {
  return folder_ / "converted" / (id + "." + extension);
}

bool AudioShelf::put(const Lease& lease) {
  const fs::path made = unfinished_path(lease);
  if (in_database_) {
    const auto file = MappedFile::open(made);
    const bool is_kept = store_.put_audio(lease, kFormat, Blob(file->bytes().begin(), file->bytes().end()));
    discard(lease);
    return is_kept;
  }
  std::error_code error;
  fs::rename(made, song_path(lease.id), error);
  if (error) throw failure("{}: {}", song_path(lease.id).string(), error.message());
  return true;
}

void AudioShelf::discard(const Lease& lease) const {
  std::error_code ignored;
  fs::remove(unfinished_path(lease), ignored);
  fs::remove(unfinished_path(lease).string() + ".json", ignored);
}

std::string AudioShelf::without_folder(std::string message) const {
  const std::string folder = (folder_ / "").string();
  for (size_t at = message.find(folder); at != std::string::npos; at = message.find(folder, at)) {
    message.erase(at, folder.size());
  }
  return message;
}

void AudioShelf::discard_all() const {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_ / "unfinished", ignored)) fs::remove(entry.path(), ignored);
}

// Where the song lies on this machine.
fs::path AudioShelf::fetched_song(const std::string& id) {
  const fs::path path = in_database_ ? converted_path(id, kFormat) : song_path(id);
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  const std::optional<AudioPart> audio = in_database_ ? store_.audio(id, kFormat) : std::nullopt;
  if (audio) {
    AtomicFile file(path);
    file.write(audio->bytes);
    file.commit(false);
    forget_old_conversions();
    return path;
  }
  throw HttpError(404, "the audio of this song is gone; its codes are there: " + id);
}

Audio AudioShelf::read(const std::string& id) {
  return read_audio(fetched_song(id));
}

std::shared_ptr<const MappedFile> AudioShelf::open(const Job& job, AudioFormat format) {
  if (format == AudioFormat::kFlac) return MappedFile::open(fetched_song(job.id));
  const fs::path path = converted_path(job.id, std::string(audio_format_name(format)));
  if (auto file = opened(path)) return *file;
  const std::lock_guard lock(converting_);
  if (auto file = opened(path)) return *file;
  const Audio audio = read(job.id);
  AudioWriter writer(path, format, resolve_sample_format(format, std::nullopt));
  in_pieces(audio, [&](auto left, auto right) { writer.write(left, right); });
  writer.finish(song_tags(parse_request(job.request, job.id).request));
  forget_old_conversions();
  return MappedFile::open(path);
}

std::shared_ptr<const MappedFile> AudioShelf::open_picture(const Job& job) {
  const fs::path path = converted_path(job.id, "png");
  if (auto file = opened(path)) return *file;
  const std::lock_guard lock(converting_);
  if (auto file = opened(path)) return *file;
  const Audio audio = read(job.id);
  SongPicture picture(path);
  in_pieces(audio, [&](auto left, auto right) { picture.add(left, right); });
  picture.write();
  forget_old_conversions();
  return MappedFile::open(path);
}

void AudioShelf::forget_old_conversions() const {
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_ / "converted", ignored)) {
    files.emplace_back(entry.last_write_time(ignored), entry.path());
  }
  std::ranges::sort(files);
  for (size_t i = 0; i + kMostConversions < files.size(); ++i) fs::remove(files[i].second, ignored);
}

void AudioShelf::remove(const std::string& id) const {
  std::error_code ignored;
  fs::remove(song_path(id), ignored);
  for (const char* extension : {kFormat, "wav", "mp3", "ogg", "opus", "png"})
    fs::remove(converted_path(id, extension), ignored);
}

}  // namespace heartmula

#include "audio/tags.h"

#include <fileref.h>
#include <mpegfile.h>
#include <tiostream.h>
#include <tpropertymap.h>
#include <wavfile.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "audio/output_stream.h"
#include "base/error.h"

namespace heartmula {
namespace {

#if TAGLIB_MAJOR_VERSION >= 2
using Offset = TagLib::offset_t;
using Start = TagLib::offset_t;
#else
using Offset = long;
using Start = unsigned long;
#endif

/// TagLib knows a format by its extension.
const char* sample_name(AudioFormat format) {
  switch (format) {
    case AudioFormat::kWav:
      return "song.wav";
    case AudioFormat::kFlac:
      return "song.flac";
    case AudioFormat::kOgg:
      return "song.ogg";
    case AudioFormat::kOpus:
      return "song.opus";
    case AudioFormat::kMp3:
      return "song.mp3";
  }
  return "";
}

/// TagLib's view of a file. TagLib's own FileStream ignores that a write failed.
class TagStream : public TagLib::IOStream {
 public:
  TagStream(OutputStream& file, AudioFormat format) : file_(file), format_(format) {}

  TagLib::FileName name() const override { return sample_name(format_); }
  bool readOnly() const override { return false; }
  bool isOpen() const override { return true; }
  Offset tell() const override { return static_cast<Offset>(file_.position()); }
  Offset length() override { return static_cast<Offset>(file_.size()); }
  void truncate(Offset length) override { file_.truncate(length); }

  void seek(Offset offset, Position from) override {
    const int64_t base = from == Beginning ? 0 : from == Current ? file_.position() : file_.size();
    file_.seek(std::max<int64_t>(0, base + offset));
  }

  TagLib::ByteVector readBlock(unsigned long length) override {
    const int64_t left = std::max<int64_t>(0, file_.size() - file_.position());
    TagLib::ByteVector block(static_cast<unsigned int>(std::min<uint64_t>(length, static_cast<uint64_t>(left))), '\0');
    const size_t count = file_.read(block.data(), block.size());
    block.resize(static_cast<unsigned int>(count));
    return block;
  }

  void writeBlock(const TagLib::ByteVector& data) override { file_.write(data.data(), data.size()); }

  void insert(const TagLib::ByteVector& data, Start start, unsigned long replace) override {
    const auto at = static_cast<int64_t>(start);
    const int64_t rest = std::min(at + static_cast<int64_t>(replace), file_.size());
    move_tail(rest, at + static_cast<int64_t>(data.size()));
    file_.seek(at);
    writeBlock(data);
  }

  void removeBlock(Start start, unsigned long length) override {
    const auto at = static_cast<int64_t>(start);
    move_tail(std::min(at + static_cast<int64_t>(length), file_.size()), at);
  }

 private:
  /// Moves everything from `from` to the end so that it begins at `to`.
  void move_tail(int64_t from, int64_t to) {
    if (from == to) return;
    const int64_t total = file_.size() - from;
    std::vector<char> block(size_t{1} << 20);
    for (int64_t done = 0; done < total && file_.error() == 0;) {
      const int64_t count = std::min<int64_t>(total - done, static_cast<int64_t>(block.size()));
      const int64_t offset = to < from ? done : total - done - count;  // no byte is written over before it was read
      file_.seek(from + offset);
      const size_t got = file_.read(block.data(), static_cast<size_t>(count));
      file_.seek(to + offset);
      file_.write(block.data(), got);
      done += count;
    }
    if (to < from) file_.truncate(to + total);
  }

  OutputStream& file_;
  AudioFormat format_;
};

/// A file in memory, to be read: TagLib's own ByteVectorStream copies it, has no name, and can be written.
class MemoryStream : public TagLib::IOStream {
 public:
  MemoryStream(std::span<const std::byte> bytes, AudioFormat format) : bytes_(bytes), format_(format) {}

  TagLib::FileName name() const override { return sample_name(format_); }
  bool readOnly() const override { return true; }
  bool isOpen() const override { return true; }
  Offset tell() const override { return static_cast<Offset>(at_); }
  Offset length() override { return static_cast<Offset>(bytes_.size()); }
  void seek(Offset offset, Position from) override {
    const auto end = static_cast<int64_t>(bytes_.size());
    const int64_t base = from == Beginning ? 0 : from == Current ? at_ : end;
    at_ = std::clamp<int64_t>(base + offset, 0, end);
  }
  TagLib::ByteVector readBlock(unsigned long length) override {
    const std::span<const std::byte> rest = bytes_.subspan(static_cast<size_t>(at_));
    const size_t count = std::min<size_t>(length, rest.size());
    at_ += static_cast<int64_t>(count);
    return {reinterpret_cast<const char*>(rest.data()), static_cast<unsigned int>(count)};
  }
  void truncate(Offset) override {}
  void writeBlock(const TagLib::ByteVector&) override {}
  void insert(const TagLib::ByteVector&, Start, unsigned long) override {}
  void removeBlock(Start, unsigned long) override {}

 private:
  std::span<const std::byte> bytes_;
  AudioFormat format_;
  int64_t at_ = 0;
};

std::optional<AudioFormat> format_of_contents(std::span<const std::byte> bytes) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 64));
  constexpr size_t kFirstPage = 28;  // of Ogg: what follows the header of one segment
  const bool is_riff = head.starts_with("RIFF") || head.starts_with("RF64");
  if (is_riff && head.size() >= 12 && head.substr(8, 4) == "WAVE") return AudioFormat::kWav;
  if (head.starts_with("fLaC")) return AudioFormat::kFlac;
  if (head.starts_with("OggS") && head.size() > kFirstPage) {
    return head.substr(kFirstPage).starts_with("OpusHead") ? AudioFormat::kOpus : AudioFormat::kOgg;
  }
  const bool has_frame_sync = head.size() >= 2 && head[0] == '\xFF' && (head[1] & 0xE6) == 0xE2;  // MPEG, layer III
  if (head.starts_with("ID3") || has_frame_sync) return AudioFormat::kMp3;
  return std::nullopt;
}

constexpr const char* kRequestKey = "HEARTMULA_REQUEST";

struct Field {
  const char* key;
  std::string Tags::*text;
};
/// TagLib's names, which it maps to each format's own.
constexpr std::array<Field, 7> kFields = {{{"TITLE", &Tags::title},
                                           {"ARTIST", &Tags::artist},
                                           {"GENRE", &Tags::genre},
                                           {"COMMENT", &Tags::comment},
                                           {"LYRICS", &Tags::lyrics},
                                           {"HEARTMULA_SEED", &Tags::seed},
                                           {kRequestKey, &Tags::request_json}}};

}  // namespace

void write_tags(OutputStream& file, AudioFormat format, const Tags& tags, const std::filesystem::path& name) {
  file.seek(0);
  TagStream stream(file, format);
  TagLib::FileRef reference(&stream, /*readAudioProperties=*/false);
  if (reference.isNull() || !reference.file()->isValid()) {
    throw failure("{}: no tags can be added: not a valid {} file", name.string(), audio_format_name(format));
  }
  TagLib::PropertyMap properties;
  for (const Field& field : kFields) {
    const std::string text = (tags.*field.text).substr(0, (tags.*field.text).find('\0'));
    if (!text.empty()) properties.insert(field.key, TagLib::String(text, TagLib::String::UTF8));
  }
  reference.file()->setProperties(properties);
  bool saved = false;
  if (auto* mpeg = dynamic_cast<TagLib::MPEG::File*>(reference.file())) {
    // Not the default, which adds an ID3v1 tag of 30 Latin-1 letters.
    saved =
        mpeg->save(TagLib::MPEG::File::ID3v2, TagLib::File::StripNone, TagLib::ID3v2::v3, TagLib::File::DoNotDuplicate);
  } else if (auto* wav = dynamic_cast<TagLib::RIFF::WAV::File*>(reference.file())) {
    saved = wav->save(TagLib::RIFF::WAV::File::AllTags, TagLib::File::StripNone, TagLib::ID3v2::v3);
  } else {
    saved = reference.file()->save();
  }
  if (!saved && file.error() == 0) throw failure("{}: the tags could not be written", name.string());
}

std::optional<std::string> read_request_json(std::span<const std::byte> audio, const std::string& name) {
  const auto format = format_of_contents(audio);
  if (!format) return std::nullopt;
  MemoryStream stream(audio, *format);
  const TagLib::FileRef reference(&stream, /*readAudioProperties=*/false);
  if (!reference.isNull()) {
    const TagLib::PropertyMap properties = reference.file()->properties();
    if (properties.contains(kRequestKey)) return properties[kRequestKey].toString().to8Bit(/*unicode=*/true);
  }
  throw user_error(
      "{}: is audio that holds no request: another program made it, or --no_metadata; the request may be in a "
      "file beside it",
      name);
}

}  // namespace heartmula

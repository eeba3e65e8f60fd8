#include "audio/format.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/error.h"

namespace heartmula {
namespace {

std::string lower_ascii(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

using Extension = std::pair<std::string_view, AudioFormat>;
constexpr std::array<Extension, 7> kExtensions = {{{".wav", AudioFormat::kWav},
                                                   {".wave", AudioFormat::kWav},
                                                   {".flac", AudioFormat::kFlac},
                                                   {".ogg", AudioFormat::kOgg},
                                                   {".oga", AudioFormat::kOgg},
                                                   {".opus", AudioFormat::kOpus},
                                                   {".mp3", AudioFormat::kMp3}}};

std::optional<AudioFormat> format_with(std::string_view extension) {
  for (const auto& [known, format] : kExtensions) {
    if (extension == known) return format;
  }
  return std::nullopt;
}

// What people ask for and nothing here encodes; and what sounds alike.
constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kInstead = {{{".m4a", "opus or mp3"},
                                                                                     {".m4b", "opus or mp3"},
                                                                                     {".mp4", "opus or mp3"},
                                                                                     {".aac", "opus or mp3"},
                                                                                     {".wma", "opus or mp3"},
                                                                                     {".webm", "opus"},
                                                                                     {".mka", "opus or flac"},
                                                                                     {".aif", "wav or flac"},
                                                                                     {".aiff", "wav or flac"},
                                                                                     {".caf", "wav or flac"},
                                                                                     {".alac", "flac"},
                                                                                     {".ape", "flac"},
                                                                                     {".wv", "flac"}}};

std::string_view instead_of(std::string_view extension) {
  for (const auto& [unknown, instead] : kInstead) {
    if (extension == unknown) return instead;
  }
  return "";
}

}  // namespace

bool is_lossy(AudioFormat format) {
  return format == AudioFormat::kOgg || format == AudioFormat::kOpus || format == AudioFormat::kMp3;
}

std::string_view audio_format_name(AudioFormat format) {
  switch (format) {
    case AudioFormat::kWav:
      return "wav";
    case AudioFormat::kFlac:
      return "flac";
    case AudioFormat::kOgg:
      return "ogg";
    case AudioFormat::kOpus:
      return "opus";
    case AudioFormat::kMp3:
      return "mp3";
  }
  return "";
}

std::string_view sample_format_name(SampleFormat format) {
  switch (format) {
    case SampleFormat::kS16:
      return "s16";
    case SampleFormat::kS24:
      return "s24";
    case SampleFormat::kF32:
      return "f32";
  }
  return "";
}

AudioFormat parse_audio_format(std::string_view name) {
  std::string extension = ".";
  extension += lower_ascii(name);
  if (const auto format = format_with(extension)) return *format;
  if (const std::string_view instead = instead_of(extension); !instead.empty()) {
    throw user_error("audio format '{}' cannot be written: use {}", name, instead);
  }
  throw user_error("unknown audio format '{}': use wav, flac, ogg, opus or mp3", name);
}

SampleFormat parse_sample_format(std::string_view name) {
  const std::string lower = lower_ascii(name);
  for (const SampleFormat format : {SampleFormat::kS16, SampleFormat::kS24, SampleFormat::kF32}) {
    if (lower == sample_format_name(format)) return format;
  }
  throw user_error("unknown sample format '{}': use s16, s24 or f32", name);
}

std::string lower_extension(const std::filesystem::path& path) {
  return lower_ascii(path.extension().string());
}

std::optional<AudioFormat> known_audio_format(const std::filesystem::path& path) {
  return format_with(lower_extension(path));
}

AudioFormat audio_format_of(const std::filesystem::path& path) {
  if (const auto format = known_audio_format(path)) return *format;
  const std::string extension = lower_extension(path);
  if (const std::string_view instead = instead_of(extension); !instead.empty()) {
    throw user_error("{}: {} files cannot be written: use {}", path.string(), extension, instead);
  }
  throw user_error(
      "{}: the name does not tell the audio format: let it end in .wav, .flac, .ogg, .opus or .mp3, or use --format",
      path.string());
}

SampleFormat resolve_sample_format(AudioFormat format, std::optional<SampleFormat> asked) {
  switch (format) {
    case AudioFormat::kWav:
      return asked.value_or(SampleFormat::kS16);
    case AudioFormat::kFlac:
      if (asked == SampleFormat::kF32) throw user_error("flac cannot hold f32 samples: use s16 or s24, or wav");
      return asked.value_or(SampleFormat::kS16);
    case AudioFormat::kOgg:
    case AudioFormat::kOpus:
    case AudioFormat::kMp3:
      if (asked) {
        throw user_error("{} has no sample format ({} was asked for): leave it out, or use wav or flac",
                         audio_format_name(format), sample_format_name(*asked));
      }
      return SampleFormat::kF32;
  }
  return SampleFormat::kF32;
}

}  // namespace heartmula

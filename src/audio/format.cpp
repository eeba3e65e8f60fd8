#include "audio/format.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace heartmula {
namespace {

std::string lower_ascii(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

}  // namespace

std::string_view audio_format_name(AudioFormat format) {
  switch (format) {
    case AudioFormat::kWav:
      return "wav";
    case AudioFormat::kFlac:
      return "flac";
    case AudioFormat::kOgg:
      return "ogg";
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
  const std::string lower = lower_ascii(name);
  for (const AudioFormat format : {AudioFormat::kWav, AudioFormat::kFlac, AudioFormat::kOgg, AudioFormat::kMp3}) {
    if (lower == audio_format_name(format)) return format;
  }
  throw user_error("unknown audio format '{}': use wav, flac, ogg or mp3", name);
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

AudioFormat audio_format_of(const std::filesystem::path& path) {
  const std::string extension = lower_extension(path);
  if (extension == ".wav" || extension == ".wave") return AudioFormat::kWav;
  if (extension == ".flac") return AudioFormat::kFlac;
  if (extension == ".ogg" || extension == ".oga") return AudioFormat::kOgg;
  if (extension == ".mp3") return AudioFormat::kMp3;
  throw user_error(
      "{}: the name does not tell the audio format: let it end in .wav, .flac, .ogg or .mp3, or use --format",
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

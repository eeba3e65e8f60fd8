// Which kinds of audio files are written, and what the samples in them look like.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace heartmula {

/// Every file is stereo at this rate.
inline constexpr int kSampleRateHz = 48000;
inline constexpr int kChannels = 2;

enum class AudioFormat { kWav, kFlac, kOgg, kOpus, kMp3 };
/// Integers of 16 and 24 bits, or floats.
enum class SampleFormat { kS16, kS24, kF32 };

/// Ogg, Opus and MP3 keep what is heard, not the samples.
bool is_lossy(AudioFormat format);

/// "wav", "flac", "ogg" (Vorbis), "opus" or "mp3".
std::string_view audio_format_name(AudioFormat format);
/// "s16", "s24" or "f32".
std::string_view sample_format_name(SampleFormat format);

/// By name or extension, upper or lower case ("oga" and "wave" are ogg and wav). Throws Error(kUser) that lists the
/// names there are.
AudioFormat parse_audio_format(std::string_view name);
SampleFormat parse_sample_format(std::string_view name);

/// Of a file name, with its dot, ASCII letters in lower case: ".png" of "Song.PNG".
std::string lower_extension(const std::filesystem::path& path);

/// What the extension of `path` tells, if it is one of those of audio_format_of().
std::optional<AudioFormat> known_audio_format(const std::filesystem::path& path);

/// By the extension of `path`: .wav, .wave, .flac, .ogg, .oga, .opus or .mp3, upper or lower case. Throws Error(kUser)
/// for any other, or none.
AudioFormat audio_format_of(const std::filesystem::path& path);

/// What a file of this format holds when the user asked for `asked`, or for nothing: s16 in WAV and FLAC. Ogg, Opus
/// and MP3 have no sample format: theirs is kF32, the encoder's input. Throws Error(kUser) if the format cannot hold
/// what was asked: f32 in FLAC, anything in the lossy ones.
SampleFormat resolve_sample_format(AudioFormat format, std::optional<SampleFormat> asked);

}  // namespace heartmula

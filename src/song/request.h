// Everything that makes a song what it is, and where it goes: a few groups of settings. settings.h has the table of
// them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "audio/format.h"
#include "checkpoint/memory_plan.h"
#include "checkpoint/settings.h"
#include "codec/heartcodec.h"
#include "decode/frame_loop.h"

namespace heartmula {

/// What is sung, and how frames are chosen.
struct SongSettings {
  std::string lyrics;  // the text itself; empty for an instrumental song
  std::string tags;    // the text itself
  std::string title;
  std::optional<int64_t> max_audio_length_ms;  // what fits, if not given; resolved before the work begins
  int64_t min_audio_length_ms = 0;
  bool ignore_eos = false;
  int64_t topk = 50;
  double temperature = 1.0;
  double cfg_scale = 1.5;
  GuessVerification verification = GuessVerification::kCoupled;
  LossyAcceptance lossy = LossyAcceptance::kNone;
  LongSong long_song = LongSong::kNone;
  std::optional<uint64_t> seed;             // resolved (and stored) before the work begins
  std::string muq_embed;                    // a file with a style vector, or empty
  std::string load_codes;                   // a codes file to go on from, or empty
  std::optional<int64_t> continue_from_ms;  // how much of it to keep; all of it if not given

  FrameLoopSettings frame_loop(int32_t audio_eos_id) const;
  /// Whether it depends on who guesses, and how much: a part of what makes the song then, not of the machine.
  bool guesses_change_it() const {
    return verification == GuessVerification::kBlock || lossy != LossyAcceptance::kNone;
  }
  /// What lets them: "--verification block" or "--lossy topk".
  std::string guesses_flag() const {
    return verification == GuessVerification::kBlock ? "--verification " + kGuessVerifications.name(verification)
                                                     : "--lossy " + kLossyAcceptances.name(lossy);
  }
};

struct OutputSettings {
  std::string save_path = "output.wav";
  std::optional<AudioFormat> format;  // by the extension of save_path if not given
  std::optional<SampleFormat> sample_format;
  std::string save_codes;    // where the codes stay for good, or empty
  int64_t fade_out_ms = 0;   // of a song that ends by its length
  bool no_metadata = false;  // the audio file holds music alone

  AudioFormat resolved_format() const { return format ? *format : audio_format_of(save_path); }
};

/// Of this run only: no part of what is stored beside a song.
struct RunSettings {
  std::string request;  // a file with the settings to begin with, or empty
  std::optional<std::string> lyrics_text;
  std::optional<std::string> tags_text;
  std::string progress = "auto";
  std::string profile;      // a trace goes there, or empty
  std::string spectrogram;  // a picture goes there, or empty
  bool json = false;
  bool no_clobber = false;               // a song that is there is not written over
  int64_t songs = 1;                     // variations, with seeds one after the other
  std::string requests;                  // a file with a request a line, or empty
  std::optional<int64_t> songs_at_once;  // as many as the memory holds, if not given
  bool goes_on = false;                  // the request is of a list of unfinished songs (unfinished_songs.h)
};

/// Names and defaults are those of heartlib's command line (its flags are the JSON's fields), where it has them.
struct Request {
  CheckpointSettings checkpoint = {};
  SongSettings song = {};
  CodecSettings codec = {};
  MachineSettings machine = {};
  OutputSettings output = {};
  RunSettings run = {};

  /// With `context` positions of the language model; 0 if only codes are decoded. It goes on from `begin_frames`.
  SongSize size(int64_t context, int64_t begin_frames = 0) const;
};

/// Throws Error(kUser) if the shortest length is more than the longest one.
void check_lengths(const Request& request);
/// Throws Error(kUser) if guesses would change the song in a way that the clock decides on, or cannot.
void check_guesses(const Request& request);

/// From the system's entropy.
uint64_t random_seed();

/// Every setting by itself. Throws Error(kUser) with the flag's name, its value and
/// what it may be.
void check_settings(const Request& request);
/// The same, and what settings have to do with each other.
void check_request(const Request& request);
/// The same, and where the song shall go: all that can be known of it before any work.
void validate(const Request& request);

/// One object, enough to make the song again: every setting that is stored and has a value.
nlohmann::json to_json(const Request& request);
/// A request from a file.
struct StoredRequest {
  Request request;
  bool was_made = false;  // it is that of a song: from a sidecar or an audio file
};
/// Of a request, or of a song's sidecar that holds one. Settings that are missing keep their defaults; an unknown one
/// is an error.
StoredRequest parse_request(std::string_view text, const std::string& name, Request defaults = {});
/// The same of a file, or of a stream ("-" is the standard input); an audio file holds the request that made it.
StoredRequest read_request(const std::filesystem::path& path, Request defaults = {});

}  // namespace heartmula

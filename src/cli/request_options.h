// The flags that make a request, shared by generate and decode.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "cli/progress.h"
#include "song/request.h"
#include "song/song_file.h"

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace heartmula {

/// Only what was given on the command line: it stands over the request file, which stands over the defaults.
struct RequestOptions {
  std::optional<std::string> request_file;
  std::optional<std::string> model_path, version, lyrics, lyrics_text, tags, tags_text, title;
  std::optional<std::string> mula_device, codec_device, mula_dtype, codec_dtype, seed, lazy_load;
  std::optional<int64_t> max_audio_length_ms, topk, codec_steps, continue_from_ms;
  std::optional<double> temperature, cfg_scale, codec_guidance_scale;
  std::optional<std::string> save_path, format, sample_format, save_codes, load_codes, cpus;
  std::optional<std::string> overlap;
  std::optional<int> threads;
  bool compat = false;
  bool mlock = false;
  std::string progress = "auto";
  std::string profile;
  std::string spectrogram;
  bool json = false;

  void add_checkpoint(CLI::App& command);
  void add_song(CLI::App& command);
  void add_codec(CLI::App& command);
  void add_output(CLI::App& command);

  /// Throws Error(kUser) that names the flag.
  Request resolve(CheckpointParts parts) const;
};

/// Runs `make` with progress on stderr and a summary at the end (or, with --json, the song's JSON on stdout).
int run_song_command(const RequestOptions& options, CheckpointParts parts,
                     nlohmann::json (*make)(Request, const SongFileHooks&, const CancelToken*));

}  // namespace heartmula

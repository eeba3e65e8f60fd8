// Everything that makes a song what it is: one JSON object, written beside each song, enough to make it again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "audio/format.h"
#include "checkpoint/memory_plan.h"
#include "codec/heartcodec.h"
#include "decode/frame_loop.h"
#include "tensor/dtype.h"

namespace heartmula {

/// Names and defaults are those of heartlib's command line (its flags are the JSON's fields), where it has them.
struct Request {
  std::string model_path;
  std::string version = "3B";
  std::string lyrics;  // the text itself; empty for an instrumental song
  std::string tags;    // the text itself
  std::string title;

  int64_t max_audio_length_ms = 240000;
  int64_t topk = 50;
  double temperature = 1.0;
  double cfg_scale = 1.5;
  std::optional<uint64_t> seed;  // resolved (and stored) before the work begins
  DType mula_dtype = DType::kBF16;

  DType codec_dtype = DType::kF32;
  int64_t codec_steps = 10;
  double codec_guidance_scale = 1.25;
  bool compat = false;

  std::string load_codes;                   // a codes file to go on from, or empty
  std::optional<int64_t> continue_from_ms;  // how much of it to keep; all of it if not given

  std::string save_path = "output.wav";
  std::optional<AudioFormat> format;  // by the extension of save_path if not given
  std::optional<SampleFormat> sample_format;
  std::string save_codes;  // where the codes stay for good, or empty

  bool lazy_load = false;
  std::optional<int>
      overlap;            // threads of the codec beside the frame loop, 0 for none; found by measuring if not given
  int threads = 0;        // 0: as many as serve best
  std::string cpus = {};  // "0-3,8" or "fastest": pins the threads; empty: the system places them
  bool mlock = false;     // weights are locked in memory

  FrameLoopSettings frame_loop_settings(int32_t audio_eos_id) const;
  CodecSettings codec_settings() const;
  SongSize size(int64_t context) const;
};

/// From the system's entropy.
uint64_t random_seed();

/// Throws Error(kUser) with the flag's name, its value and what it may be.
void validate(const Request& request);

nlohmann::json to_json(const Request& request);
/// Of a request, or of a song's sidecar that holds one. Settings that are missing keep their defaults; an unknown one
/// is an error.
Request parse_request(std::string_view text, const std::string& name, Request defaults = {});
Request read_request(const std::filesystem::path& path, Request defaults = {});

/// "bfloat16", "bf16", "float16", "fp16", "float32", "fp32" as in heartlib; 16-bit floats are bf16 (with a note for
/// fp16). Throws Error(kUser) that names `flag`.
DType parse_weight_dtype(std::string_view flag, const std::string& name);
std::string weight_dtype_name(DType dtype);

/// "auto" (nothing), "off" (0), or a number of threads. Throws Error(kUser) for anything else.
std::optional<int> parse_overlap(const std::string& word);
std::string overlap_name(const std::optional<int>& overlap);

}  // namespace heartmula

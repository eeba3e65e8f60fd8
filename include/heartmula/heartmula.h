// heartmula: lyrics and tags to a song, in one process, without Python.
//
//   heartmula::Model model({.model_path = "ckpt"});
//   heartmula::Song song = model.generate({.lyrics = lyrics, .tags = "piano,happy"}, {.audio = play});
//
// Every error is a heartmula::Error with one line that says what is wrong and what to do.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heartmula/cancel.h"
#include "heartmula/error.h"
#include "heartmula/export.h"
#include "heartmula/frame.h"

namespace heartmula {

/// Weights are rounded to this when they are loaded; nothing is quantized.
enum class WeightType { kFloat32, kBFloat16 };

struct ModelSettings {
  std::string model_path;                        ///< folder: HeartMuLa-oss-3B/, HeartCodec-oss/, tokenizer.json
  std::string version = "3B";                    ///< the language model's size, or the name of a release or folder
  WeightType mula_type = WeightType::kBFloat16;  ///< of the language model
  WeightType codec_type = WeightType::kFloat32;
  bool lazy_load = false;  ///< one model in memory at a time
  int threads = 0;         ///< 0: one for each core, or as many as decode fastest
  /// Pins the threads, the calling one for the time of each call: "0-3,8" puts thread i on the i-th of these cpus,
  /// "fastest" on the fastest cores. Empty: the system places them.
  std::string cpus = {};
  std::string mula_path = {};          ///< the language model's folder, instead of one in model_path
  std::string codec_path = {};         ///< the codec's folder, likewise
  std::string tokenizer = {};          ///< tokenizer.json, likewise
  std::vector<std::string> lora = {};  ///< folders of PEFT adapters that are merged into the language model
  /// "cpu", "cuda", "cuda:1", or "auto": a card if there is one with enough memory. One that was asked for and cannot
  /// be used is an error.
  std::string device = "auto";
  std::string mula_device = {};   ///< of the language model alone, instead of `device`
  std::string codec_device = {};  ///< of the codec alone, likewise
  bool mlock = false;             ///< weights are locked in memory; an error if the system does not allow it
};

/// What the codec makes of codes. Defaults are the reference's.
struct CodecRequest {
  std::string quality = "reference";     ///< or "balanced", "fast": less work
  std::optional<int64_t> steps;          ///< of the solver; by quality if not given
  std::optional<double> guidance_scale;  ///< 1 and below: off; by quality if not given
  std::string windows = "reference";     ///< or "early": the first samples come after 93 frames instead of 372
  bool compat = false;                   ///< join windows as the reference does
};

/// Same request, same seed, same song: on one machine and build, for any number of threads.
struct SongRequest {
  std::string lyrics;  ///< UTF-8; empty makes an instrumental song
  std::string tags;    ///< UTF-8: "piano,happy"
  int64_t max_audio_length_ms = 240000;
  int64_t topk = 50;
  double temperature = 1.0;
  double cfg_scale = 1.5;  ///< guidance; 1 and below: off
  /// How a song goes on where the model's context ends, of which the reference knows nothing: "none" refuses it,
  /// "slide" keeps the prompt and forgets the oldest frames, "chapters" gives each part of the lyrics its share of the
  /// song.
  std::string long_song = "none";
  std::optional<uint64_t> seed;  ///< random if not given
  std::vector<Frame> begin;      ///< what the song begins with: frames of an earlier one
  CodecRequest codec;
};

/// How far a stage is: "load", "frames" or "codec".
struct Progress {
  std::string_view stage;
  int64_t done = 0;
  int64_t total = 0;
  double seconds = 0;
};

/// Called from the generating thread (frames) and from another one (audio, progress of the codec); never two calls of
/// one callback at once. An exception ends the song and comes out of generate().
struct Callbacks {
  std::function<void(const Progress&)> progress;
  std::function<void(int64_t index, const Frame& frame)> frame;
  /// 48 kHz samples of both channels, in order, each piece as soon as it is final; full scale is 1.
  std::function<void(std::span<const float> left, std::span<const float> right)> audio;
};

struct Song {
  std::vector<Frame> frames;  ///< 12.5 a second, those of `begin` included
  StopReason stop_reason = StopReason::kLength;
  uint64_t seed = 0;
  int64_t dropped_codes = 0;  ///< codes that the codec has no entry for
};

/// One of several songs that are made at once.
struct SongTask {
  SongRequest request;
  Callbacks callbacks;                  ///< of this song alone; what they throw ends it, and leaves the others alone
  const CancelToken* cancel = nullptr;  ///< likewise; must outlive the call
};

/// What became of it.
struct SongResult {
  Song song;                 ///< of one that failed, the frames so far
  std::exception_ptr error;  ///< null if the song is made
};

/// One checkpoint in memory. One call at a time; different models may be used by different threads.
class HEARTMULA_API Model {
 public:
  /// Checks the files; the weights are loaded when they are first needed, and stay (unless lazy_load).
  explicit Model(const ModelSettings& settings);
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  /// Throws Error(kCancelled) soon after `cancel` is raised: the frames so far have gone to callbacks.frame, and a
  /// request that begins with them and has the same seed makes the same song.
  Song generate(const SongRequest& request, const Callbacks& callbacks, const CancelToken* cancel = nullptr);

  /// Many songs, `songs_at_once` beside each other in the language model (0: as many as the memory holds, 8 at most);
  /// together they take much less time than one after the other, and each is, bit for bit, what it is alone. They are
  /// begun in their order; one that fails leaves the others alone. Calls of different songs' callbacks may come at the
  /// same time. Returns a result for each, in the same order, also after `cancel` was raised; throws only what is wrong
  /// with the call itself: Error(kUser) if so many do not fit into the memory.
  std::vector<SongResult> generate_songs(std::span<const SongTask> tasks, int64_t songs_at_once = 0,
                                         const CancelToken* cancel = nullptr);

  /// The audio of finished frames, with the codec alone.
  Song decode(std::span<const Frame> frames, const CodecRequest& request, uint64_t seed, const Callbacks& callbacks,
              const CancelToken* cancel = nullptr);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace heartmula

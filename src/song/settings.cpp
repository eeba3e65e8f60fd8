#include "song/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "song/setting_numbers.h"
#include "song/setting_texts.h"
#include "song/setting_words.h"

namespace heartmula {
namespace {

constexpr int64_t kMaxDraftFrames = 16;

using namespace setting_types;
using Group = SettingGroup;

constexpr int64_t kLongestFadeMs = 60'000;
constexpr int64_t kMostSongs = 100'000;
constexpr int64_t kMostSongsAtOnce = 256;
constexpr int64_t kMostMegabytes = 100'000'000;
constexpr unsigned kSongs = kGenerate | kDecode;
constexpr unsigned kAll = kGenerate | kDecode | kConvert;
const Words kDtypes = {{"float32", "fp32", "f32", "bfloat16", "bf16", "float16", "fp16"}};
const Words kStepList = {{}, "^(all|[0-9]+(,[0-9]+)*)$"};
const Words kDevices = {{}, "^(auto|cpu|cuda|cuda:[0-9]+)$"};
constexpr unsigned kTexts = kGenerate | kLint;
constexpr unsigned kExamined = kDoctor | kStages;

// Names the flag in what `parse` throws.
template <typename Parse>
auto with_flag(const std::string& flag, const Parse& parse) {
  try {
    return parse();
  } catch (const Error& error) {
    throw user_error("{}: {}", flag, error.what());
  }
}

AudioFormat parse_format(const std::string& flag, const std::string& word) {
  return with_flag(flag, [&] { return parse_audio_format(word); });
}

SampleFormat parse_samples(const std::string& flag, const std::string& word) {
  return with_flag(flag, [&] { return parse_sample_format(word); });
}

// Sets what it stands for; what is given besides comes later.
class Quality final : public SettingType {
 public:
  std::string placeholder() const override { return "NAME"; }
  nlohmann::json schema() const override { return {{"type", "string"}, {"enum", kCodecQualities.words()}}; }
  nlohmann::json get(const Request& request) const override { return kCodecQualities.name(request.codec.quality); }
  void set(Request& request, const nlohmann::json& value, const std::string& where) const override {
    if (!value.is_string()) throw user_error("{} must be a string, not {}", where, value.dump());
    parse(request, value.get<std::string>(), where);
  }
  void parse(Request& request, const std::string& name, const std::string& where) const override {
    CodecSettings settings = CodecSettings::of(kCodecQualities.parse(where, name));
    settings.windows = request.codec.windows;
    settings.order = request.codec.order;
    settings.compat = request.codec.compat;
    request.codec = std::move(settings);
  }
  void check(const Request&, const std::string&, const std::string&) const override {}
};
const char* group_name(SettingGroup group) {
  switch (group) {
    case Group::kCheckpoint:
      return "checkpoint";
    case Group::kSong:
      return "song";
    case Group::kCodec:
      return "codec";
    case Group::kMachine:
      return "machine";
    case Group::kOutput:
      return "output";
    case Group::kRun:
      return "run";
  }
  return "";
}

const char* changes_name(Changes changes) {
  switch (changes) {
    case Changes::kCodes:
      return "codes";
    case Changes::kSound:
      return "sound";
    case Changes::kNothing:
    case Changes::kThisRun:
      break;
  }
  return "nothing";
}

std::vector<Setting> make_table() {
  const auto checkpoint = [](auto member) { return field(&Request::checkpoint, member); };
  const auto song = [](auto member) { return field(&Request::song, member); };
  const auto codec = [](auto... members) { return field(&Request::codec, members...); };
  const auto machine = [](auto member) { return field(&Request::machine, member); };
  const auto output = [](auto member) { return field(&Request::output, member); };
  const auto run = [](auto member) { return field(&Request::run, member); };
  using C = CheckpointSettings;
  using S = SongSettings;
  using M = MachineSettings;
  using O = OutputSettings;
  using R = RunSettings;
  return {
      {"model_path", Group::kCheckpoint, Changes::kNothing, kAll | kExamined | kSteps | kDrafts | kLint,
       path(checkpoint(&C::model_path), "DIR"),
       "the checkpoint: HeartMuLa-oss-3B/, HeartCodec-oss/, tokenizer.json, gen_config.json"},
      {"version", Group::kCheckpoint, Changes::kCodes, kAll | kExamined | kDrafts,
       text(checkpoint(&C::version), "NAME"),
       "size or release of the language model: `3B`, `RL-oss-3B-20260123`, or its folder's name"},
      {"mula_path", Group::kCheckpoint, Changes::kNothing, kGenerate | kConvert | kExamined | kDrafts,
       path(checkpoint(&C::mula_path), "DIR"), "the language model's folder, instead of one in `--model_path`"},
      {"codec_path", Group::kCheckpoint, Changes::kNothing, kAll | kExamined | kSteps,
       path(checkpoint(&C::codec_path), "DIR"), "the codec's folder, likewise"},
      {"tokenizer", Group::kCheckpoint, Changes::kNothing, kGenerate | kConvert | kDoctor | kDrafts,
       path(checkpoint(&C::tokenizer)),
       "tokenizer.json, likewise; gen_config.json lies beside it or in `--model_path`"},
      {"lora", Group::kCheckpoint, Changes::kCodes, kGenerate | kConvert | kDrafts, paths(checkpoint(&C::lora), "DIR"),
       "a PEFT adapter (adapter_config.json, adapter_model.safetensors), merged into the language model; may be given "
       "several times; a packed checkpoint takes none: give it to `heartmula convert`"},
      {"skip_layers", Group::kCheckpoint, Changes::kCodes, kGenerate | kStages,
       integer(checkpoint(&C::skip_layers), 0, 1024),
       "leave out so many layers of the language model's backbone, from its middle outward: faster by what they weigh, "
       "and other music: level G2, [measured](docs/decoding.md#layers-left-out)"},
      {"lyrics", Group::kSong, Changes::kCodes, kTexts, song_text(song(&S::lyrics), "FILE_OR_TEXT"),
       "a file, `-` for the standard input, a pipe, or the lyrics themselves; `\"\"` is instrumental; one word with an "
       "extension that names no file is an error",
       "`./assets/lyrics.txt`"},
      {"lyrics_text", Group::kSong, Changes::kThisRun, kTexts, song_text(run(&R::lyrics_text)),
       "the lyrics themselves, whatever they look like; `\"\"` is instrumental"},
      {"tags", Group::kSong, Changes::kCodes, kTexts, song_text(song(&S::tags), "FILE_OR_TEXT"),
       "likewise: a file, or the tags themselves, `\"piano,happy\"`", "`./assets/tags.txt`"},
      {"tags_text", Group::kSong, Changes::kThisRun, kTexts, song_text(run(&R::tags_text)),
       "the tags themselves, whatever they look like"},
      {"title", Group::kSong, Changes::kNothing, kSongs, song_text(song(&S::title)),
       "title, written into the audio file"},
      {"save_path", Group::kOutput, Changes::kNothing, kSongs, path(output(&O::save_path)),
       "where the song goes; `-`, `/dev/stdout` or a pipe work, too",
       "`./assets/output.mp3`, or `output.mp3` where there is no folder `assets`, numbered if it is there already"},
      {"format", Group::kOutput, Changes::kNothing, kSongs,
       word(output(&O::format), parse_format, audio_format_name, {{"wav", "flac", "ogg", "opus", "mp3"}}),
       "`wav`, `flac`, `ogg`, `opus` or `mp3`", "by the extension of `--save_path`"},
      {"sample_format", Group::kOutput, Changes::kNothing, kSongs,
       word(output(&O::sample_format), parse_samples, sample_format_name, {{"s16", "s24", "f32"}}),
       "`s16`, `s24` or `f32`, of WAV and FLAC", "`s16`"},
      {"max_audio_length_ms", Group::kSong, Changes::kCodes, kTexts | kServe, integer(song(&S::max_audio_length_ms), 0),
       "longest song, in milliseconds", "240000, or what the model's context holds"},
      {"min_audio_length_ms", Group::kSong, Changes::kCodes, kGenerate, integer(song(&S::min_audio_length_ms), 0),
       "the song does not end by itself before; what would end it is not sampled, which changes the music: level G2"},
      {"ignore_eos", Group::kSong, Changes::kCodes, kGenerate, flag(song(&S::ignore_eos)),
       "the song never ends by itself: it is as long as `--max_audio_length_ms`; likewise level G2"},
      {"verification", Group::kSong, Changes::kCodes, kGenerate, named(song(&S::verification), kGuessVerifications),
       "how guesses are verified: `coupled`, so that the song stays the same; `block`, so that more of them stand and "
       "the song is another one of the same distribution (level G1), which needs `--draft_frames` and a drafter file"},
      {"lossy", Group::kSong, Changes::kCodes, kGenerate, named(song(&S::lossy), kLossyAcceptances),
       "take guesses of `--drafter` that are not what the model draws: `topk`, those that it might have drawn; "
       "`typical`, those that are likely enough (Medusa's rule); `tolerance`, those that it would draw if they were "
       "twice as likely; `group`, those that sound like what it draws (codebooks 4 to 7); needs `--draft_frames`, "
       "changes the music: level G2"},
      {"long", Group::kSong, Changes::kCodes, kGenerate, named(song(&S::long_song), kLongSongs),
       "how a song goes on where the model's context ends: `slide` keeps the whole prompt and forgets the oldest "
       "frames; "
       "`chapters` gives each part of the lyrics its share of the song, after the last 10 s before it; level G2: "
       "[long songs](docs/decoding.md#long-songs)"},
      {"seed", Group::kSong, Changes::kCodes, kSongs, seed(song(&S::seed)),
       "same seed, same song; -1 is a random one, which is printed and stored", "-1"},
      {"topk", Group::kSong, Changes::kCodes, kGenerate | kServe, integer(song(&S::topk), 1),
       "sample among this many likeliest codes", "", "; 1 takes the likeliest code each time"},
      {"temperature", Group::kSong, Changes::kCodes, kGenerate | kServe, number(song(&S::temperature), 1e-3, 1e3),
       "above 1 wilder, below 1 tamer", "", "; --topk 1 takes the likeliest code each time"},
      {"cfg_scale", Group::kSong, Changes::kCodes, kGenerate | kServe, number(song(&S::cfg_scale), 0, 100),
       "how closely to follow lyrics and tags; 1 is off, and half the arithmetic"},
      {"muq_embed", Group::kSong, Changes::kCodes, kGenerate, path(song(&S::muq_embed)),
       "style vector of 512 numbers, .npy or safetensors; the released checkpoints were given zeros, so expect little"},
      {"mula_dtype", Group::kCheckpoint, Changes::kCodes, kGenerate | kConvert | kDrafts,
       word(checkpoint(&C::mula_dtype), parse_weight_dtype, weight_dtype_name, kDtypes),
       "weights of the language model: `bfloat16` (`bf16`) or `float32` (`fp32`); `float16` is taken as bfloat16, with "
       "a "
       "note"},
      {"codec_dtype", Group::kCheckpoint, Changes::kSound, kAll | kSteps,
       word(checkpoint(&C::codec_dtype), parse_weight_dtype, weight_dtype_name, kDtypes),
       "weights of the codec, likewise"},
      {"quality", Group::kCodec, Changes::kSound, kSongs | kStages, std::make_shared<Quality>(),
       "how exactly the codec works, and how long: `reference` as heartlib, `balanced` as exact with less than half of "
       "the work, `fast` a little rougher with less than a third; sets the solver, its steps, guidance steps and the "
       "last window, which flags of their own change: [docs/codec.md](docs/codec.md)",
       "`reference`"},
      {"codec_solver", Group::kCodec, Changes::kSound, kSongs | kStages,
       named(codec(&CodecSettings::flow, &FlowSettings::solver), kFlowSolvers),
       "`euler`, `ab2`, `midpoint`, `heun` or `dpmpp2m`"},
      {"codec_steps", Group::kCodec, Changes::kSound, kSongs | kStages,
       integer(codec(&CodecSettings::flow, &FlowSettings::steps), 1, 1000),
       "steps of the codec's solver: fewer are faster and rougher; a student has its own"},
      {"codec_grid", Group::kCodec, Changes::kSound, kSongs | kStages,
       word(codec(&CodecSettings::flow, &FlowSettings::grid), parse_flow_grid, flow_grid_name,
            {{}, "^(uniform|sway(:-?[0-9.]+)?|epss|0(,[0-9.e-]+)+)$"}, "WHAT"),
       "the steps' times: `uniform`, `sway` or `sway:S`, `epss`, or a list from 0 to 1, `0,0.2,0.5,1`, with "
       "`--codec_steps 3`; "
       "`epss` has 5, 6, 7, 10, 12 or 16 steps"},
      {"codec_guidance_steps", Group::kCodec, Changes::kSound, kSongs | kStages,
       word(codec(&CodecSettings::flow, &FlowSettings::guidance_steps), parse_flow_steps, flow_steps_name, kStepList,
            "LIST"),
       "steps that work out anew what guidance adds, counted from 0 (`0,2,4`): the others keep it and take half the "
       "arithmetic"},
      {"codec_first_stack_steps", Group::kCodec, Changes::kSound, kSongs | kStages,
       word(codec(&CodecSettings::flow, &FlowSettings::first_stack_steps), parse_flow_steps, flow_steps_name, kStepList,
            "LIST"),
       "steps that run the first half of the flow model, likewise"},
      {"codec_guidance_scale", Group::kCodec, Changes::kSound, kSongs | kStages,
       number(codec(&CodecSettings::flow, &FlowSettings::guidance), 0, 100),
       "guidance of the codec; 1 is off, and half the arithmetic"},
      {"windows", Group::kCodec, Changes::kSound, kSongs | kStages,
       named(codec(&CodecSettings::windows), kWindowSchemes),
       "how the song is cut for the codec: `reference`, 29.76 s each, or `early`, beginning with 7.44 s, so that music "
       "is heard soon"},
      {"codec_windows", Group::kCodec, Changes::kSound, kSongs, named(codec(&CodecSettings::order), kWindowOrders),
       "windows one after the other; or all at once when the last frame is there, in two sweeps (`parallel`) or "
       "without "
       "context (`blended`): for cards with idle arithmetic; on a CPU `parallel` takes longer"},
      {"codec_short_last_window", Group::kCodec, Changes::kSound, kSongs | kStages,
       boolean(codec(&CodecSettings::short_last_window)),
       "the last window is as long as what is left of the song, not filled up"},
      {"compat", Group::kCodec, Changes::kSound, kSongs, flag(codec(&CodecSettings::compat)),
       "join windows as heartlib does, which decodes 4.16 s twice and loses the last 4.16 s of some lengths"},
      {"fade_out_ms", Group::kOutput, Changes::kSound, kSongs, integer(output(&O::fade_out_ms), 0, kLongestFadeMs),
       "fade out the last so many milliseconds of a song that ends by its length"},
      {"no_metadata", Group::kOutput, Changes::kNothing, kSongs, flag(output(&O::no_metadata)),
       "write no title, lyrics, seed or request into the audio file"},
      {"no_clobber", Group::kRun, Changes::kThisRun, kSongs, flag(run(&R::no_clobber)),
       "an existing song is not written over"},
      {"save_codes", Group::kOutput, Changes::kNothing, kGenerate, path(output(&O::save_codes)),
       "keep the codes in this file for good"},
      {"load_codes", Group::kSong, Changes::kCodes, kGenerate, path(song(&S::load_codes)),
       "go on from these codes, with their settings unless others are given"},
      {"continue_from_ms", Group::kSong, Changes::kCodes, kGenerate, integer(song(&S::continue_from_ms), 0),
       "how much of `--load_codes` to keep; `--max_audio_length_ms` is still the total", "all"},
      {"lazy_load", Group::kMachine, Changes::kNothing, kGenerate, boolean(machine(&M::lazy_load)),
       "one model in memory at a time: less memory, no audio before the last frame"},
      {"memory", Group::kMachine, Changes::kNothing, kSongs, named(machine(&M::memory), kMemoryPolicies),
       "`strict` refuses a song that takes more memory than there is; `auto` makes it with one model at a time, then "
       "with the codec's weights in bfloat16 (another sound), then with both, and says so"},
      {"device", Group::kMachine, Changes::kNothing, kAll | kSteps | kDrafts,
       word(machine(&M::device), parse_device, device_name, kDevices),
       "`cpu`, `cuda` or `cuda:N` (`heartmula devices` lists the cards), or `auto`: a card if there is one with enough "
       "memory, else the CPU; a card that was asked for and cannot be used is an error: [docs/cuda.md](docs/cuda.md)"},
      {"mula_device", Group::kMachine, Changes::kNothing, kGenerate | kDrafts,
       word(machine(&M::mula_device), parse_device, device_name, kDevices), "of the language model alone",
       "`--device`"},
      {"codec_device", Group::kMachine, Changes::kNothing, kSongs | kSteps,
       word(machine(&M::codec_device), parse_device, device_name, kDevices), "of the codec alone", "`--device`"},
      {"cuda_weights", Group::kMachine, Changes::kNothing, kSongs | kDrafts,
       word(machine(&M::cuda_weights), parse_cuda_weights, cuda_weights_name, {{"copy"}}),
       "how weights get to a card: `copy`; `map` is not built yet"},
      {"threads", Group::kMachine, Changes::kNothing, kAll | kSteps | kDrafts,
       integer(machine(&M::threads), 0, kMaxThreads), "threads",
       "one for each core, or as many as decode fastest: [docs/threads.md](docs/threads.md)"},
      {"cpus", Group::kMachine, Changes::kNothing, kSongs | kSteps | kDrafts, path(machine(&M::cpus), kCpuList),
       "pin the threads: `0-3,8` puts thread i on the i-th of these cpus, `fastest` on the fastest cores",
       "not pinned"},
      {"mlock", Group::kMachine, Changes::kNothing, kSongs, flag(machine(&M::mlock)),
       "lock the weights in memory, so that the system never takes them out; needs the permission (`ulimit -l`)"},
      {"overlap", Group::kMachine, Changes::kNothing, kGenerate,
       word(machine(&M::overlap), parse_overlap, overlap_name, {{}, "^(auto|off|[0-9]+)$"}, "WHAT"),
       "decode finished windows beside the frame loop: `auto` measures whether, and with how many threads, that is "
       "faster; `off`; or the number of threads for it"},
      {"drafter", Group::kMachine, Changes::kNothing, kGenerate,
       word(
           machine(&M::drafter), parse_drafter, [](const std::string& name) { return name; },
           {{}, "^(auto|none|bigram|previous|riders|ngram|random|early_exit(:[0-9]+)?|.*/.*|.*\\.safetensors)$"},
           "NAME"),
       "who guesses frames, which are verified, so that the song stays the same: `auto`, `none`, `bigram`, `previous`, "
       "`riders`, `ngram`, `early_exit:LAYERS`, `random` or a drafter file (*.safetensors): "
       "[docs/decoding.md](docs/decoding.md)"},
      {"draft_frames", Group::kMachine, Changes::kNothing, kGenerate,
       integer(machine(&M::draft_frames), 0, kMaxDraftFrames),
       "guess so many frames in every step (0: the rest of each frame alone)", "those that pay, where they do"},
      {"kv_memory_mb", Group::kMachine, Changes::kNothing, kGenerate,
       integer(machine(&M::kv_memory_mb), 1, kMostMegabytes),
       "of several songs at once: memory for the keys and values of all, in MB (at least what the longest needs); the "
       "youngest songs rest while there is none left: [many songs](#many-songs-at-once)",
       "what they need, or what there is"},
      {"kv_swap", Group::kMachine, Changes::kNothing, kGenerate, path(machine(&M::kv_swap), "DIR"),
       "keep the keys and values of songs that rest in this folder, instead of computing them again"},
      {"request", Group::kRun, Changes::kThisRun, kSongs, path(run(&R::request)),
       "take every setting from this: a song's sidecar, a song that holds its request, or your own JSON; other flags "
       "stand "
       "over it, and where that song went is not taken over"},
      {"songs", Group::kRun, Changes::kThisRun, kGenerate, integer(run(&R::songs), 1, kMostSongs),
       "so many variations: seeds one after the other, `song-1.flac`, `song-2.flac`, ... for `--save_path song.flac`, "
       "or "
       "`{n}` and `{seed}` in its place: [many songs](#many-songs-at-once)"},
      {"requests", Group::kRun, Changes::kThisRun, kGenerate, path(run(&R::requests)),
       "a song for each line of this file (`-` is the standard input), which holds a request, a JSON object as for "
       "`--request`; other flags stand over all of them"},
      {"songs_at_once", Group::kRun, Changes::kThisRun, kGenerate, integer(run(&R::songs_at_once), 1, kMostSongsAtOnce),
       "how many of several songs to make beside each other", "as many as the memory holds, 8 at most"},
      {"progress", Group::kRun, Changes::kThisRun, kAll, text(run(&R::progress), "MODE"),
       "`bar`, `lines`, `json` (one object a line), `none`, on standard error", "`auto`: a bar on a terminal"},
      {"profile", Group::kRun, Changes::kThisRun, kSongs, path(run(&R::profile)),
       "write a trace of every operation (time, bytes, arithmetic, fraction of its limit), for "
       "[Perfetto](https://ui.perfetto.dev)"},
      {"spectrogram", Group::kRun, Changes::kThisRun, kSongs, path(run(&R::spectrogram)),
       "draw the song here: its wave, and its spectrogram below (mel scale up to 20 kHz, 80 dB), as a PNG picture; a "
       "picture that cannot be written at the end costs a line on standard error, never the song"},
      {"json", Group::kRun, Changes::kThisRun, kSongs, flag(run(&R::json)),
       "print the sidecar's JSON on standard output instead of a summary; of several songs, a list"},
  };
}

}  // namespace

const std::vector<Setting>& settings_table() {
  static const std::vector<Setting> kTable = [] {
    std::vector<Setting> table = make_table();
    for (Setting& setting : table) {
      // What a server is started with: all that is not of one song.
      const bool is_of_server =
          setting.group == Group::kCheckpoint || setting.group == Group::kMachine || setting.group == Group::kCodec;
      if (is_of_server && (setting.commands & kGenerate) != 0) setting.commands |= kServe;
    }
    return table;
  }();
  return kTable;
}

const Setting* find_setting(std::string_view name) {
  for (const Setting& setting : settings_table()) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

std::string default_text(const Setting& setting) {
  if (!setting.default_text.empty()) return setting.default_text;
  const nlohmann::json value = setting.type->get(Request());
  if (value.is_null() || setting.type->placeholder().empty()) return {};
  if (!value.is_string()) return value.dump();
  const auto word = value.get<std::string>();
  return word.empty() ? word : "`" + word + "`";
}

nlohmann::json request_schema() {
  nlohmann::json properties = nlohmann::json::object();
  for (const Setting& setting : settings_table()) {
    if (!setting.stored()) continue;
    nlohmann::json schema = setting.type->schema();
    schema["description"] = plain_text(setting.help);
    schema["x-group"] = group_name(setting.group);
    schema["x-changes"] = changes_name(setting.changes);
    if (setting.type->names_files()) schema["x-file"] = true;
    nlohmann::json value = setting.type->get(Request());
    if (!value.is_null()) schema["default"] = std::move(value);
    properties[setting.name] = std::move(schema);
  }
  return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
          {"title", "A song's request, as `heartmula generate --request FILE` takes it"},
          {"type", "object"},
          {"properties", std::move(properties)},
          {"additionalProperties", false}};
}

std::string markdown_rows(Commands command) {
  std::string rows;
  for (const Setting& setting : settings_table()) {
    if ((setting.commands & command) == 0) continue;
    const std::string placeholder = setting.type->placeholder();
    const std::string default_value = default_text(setting);
    rows += fmt::format("| `{}{}{}` | {}{} |\n", setting.flag(), placeholder.empty() ? "" : " ", placeholder,
                        setting.help, default_value.empty() ? "" : fmt::format(" ({})", default_value));
  }
  return rows;
}

std::string plain_text(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '`' || text[i] == '[') continue;
    if (text.substr(i).starts_with("](")) {  // the target of a link
      i = std::min(text.find(')', i), text.size());
      continue;
    }
    plain += text[i];
  }
  return plain;
}

namespace {

/// Whether the setting is one of those that decide on the song's codes.
bool makes_codes(const Setting& setting, const Request& request) {
  const bool guesses = setting.name == "drafter" || setting.name == "draft_frames";
  return setting.changes == Changes::kCodes || (guesses && request.song.guesses_change_it());
}

}  // namespace

nlohmann::json music_json(const Request& request) {
  nlohmann::json json = nlohmann::json::object();
  for (const Setting& setting : settings_table()) {
    nlohmann::json value = setting.type->get(request);
    const bool makes_music = makes_codes(setting, request) || setting.changes == Changes::kSound;
    const bool is_of_song = setting.group == SettingGroup::kSong && setting.stored();
    if ((!makes_music && !is_of_song) || value.is_null()) continue;
    const auto file_name = [](const nlohmann::json& path) {
      return std::filesystem::path(path.get<std::string>()).filename().string();
    };
    if (setting.type->names_files() || setting.name == "drafter") {
      if (value.is_array()) {
        for (nlohmann::json& path : value) path = file_name(path);
      } else {
        value = file_name(value);
      }
    }
    json[setting.name] = std::move(value);
  }
  return json;
}

bool same_codes(const Request& a, const Request& b) {
  for (const Setting& setting : settings_table()) {
    if (setting.name == "version" || setting.name == "lora") continue;
    if (makes_codes(setting, a) && setting.type->get(a) != setting.type->get(b)) return false;
  }
  return true;
}

}  // namespace heartmula

#include "measure/draft_dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <span>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/message.h"
#include "checkpoint/models.h"
#include "measure/made_song.h"
#include "tensor/safetensors.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetadata = "heartmula_dump";
constexpr const char* kCodesEnding = ".codes.safetensors";
constexpr int64_t kFramesOfPass = 16;

/// A song's file, row by row.
struct Dump {
  std::vector<float> hidden = {};
  std::vector<int32_t> tokens = {};
  std::vector<float> logits = {};
};

class Dumper {
 public:
  Dumper(const DraftDumpOptions& options, const CancelToken* cancel)
      : folder_(options.folder),
        models_({.checkpoint = options.checkpoint, .machine = options.machine}, CheckpointParts::kAll, cancel) {
    std::set<std::string> names;
    for (const std::string& path : options.codes) {
      songs_.push_back(read_made_song(models_, path, 0));
      if (!names.insert(path_of(songs_.back()).string()).second) {
        throw user_error("{}: two songs of this name; {} would be of both", path, path_of(songs_.back()).string());
      }
    }
  }

  void run(const std::function<void(const std::string&)>& note) {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) throw user_error("{}: {}", folder_.string(), error.message());
    std::vector<const MadeSong*> missing;
    int64_t bytes = 0;
    for (const MadeSong& song : songs_) {
      if (is_there(song)) continue;
      missing.push_back(&song);
      bytes += std::ssize(song.frames) * bytes_of_frame(song);
    }
    note(fmt::format("{} of {} songs are missing, {:.1f} MB", missing.size(), songs_.size(),
                     1e-6 * static_cast<double>(bytes)));
    for (const MadeSong* song : missing) {
      note(message("{}: {} frames", song->name, song->frames.size()));
      write(*song, dump(*song));
    }
  }

 private:
  fs::path path_of(const MadeSong& song) const {
    std::string name = fs::path(song.name).filename().string();
    if (name.ends_with(kCodesEnding)) {
      name.resize(name.size() - std::string_view(kCodesEnding).size());
    } else {
      name = fs::path(name).stem().string();
    }
    return folder_ / (name + ".dump.safetensors");
  }

  int64_t most_tokens(const MadeSong& song) const {
    return std::min(song.settings.sampling.topk, models_.lm_config().audio_vocab_size);
  }

  int64_t bytes_of_frame(const MadeSong& song) {
    const int64_t hidden = song.settings.sampling.streams() * models_.lm_config().backbone.embed_dim;
    const auto of_token = static_cast<int64_t>(sizeof(int32_t) + sizeof(float));
    return hidden * static_cast<int64_t>(dtype_size(models_.lm().dtype)) + kCodebooks * most_tokens(song) * of_token +
           static_cast<int64_t>(sizeof(Frame));
  }

  std::string metadata(const MadeSong& song) {
    const SamplingSettings& sampling = song.settings.sampling;
    return nlohmann::json({{"version", 1},
                           {"language_model", models_.lm_identity().fingerprint},
                           {"temperature", sampling.temperature},
                           {"topk", sampling.topk},
                           {"cfg_scale", sampling.guidance},
                           {"seed", song.seed},
                           {"codes", fs::path(song.name).filename().string()}})
        .dump();
  }

  bool is_there(const MadeSong& song) {
    const fs::path path = path_of(song);
    if (!fs::exists(path)) return false;
    if (is_of(path, song)) return true;
    throw user_error("{}: is there already, but is not of {}: remove it, or name another folder", path.string(),
                     song.name);
  }

  bool is_of(const fs::path& path, const MadeSong& song) {
    try {
      const SafetensorsFile file = SafetensorsFile::open(path);
      const auto found = file.metadata().find(kMetadata);
      if (found == file.metadata().end() || found->second != metadata(song)) return false;
      const StoredTensor* codes = file.find("codes");
      const StoredTensor* hidden = file.find("hidden");
      return hidden != nullptr && hidden->dtype == models_.lm().dtype && codes != nullptr &&
             std::ranges::equal(codes->data, std::as_bytes(std::span(song.frames)));
    } catch (const Error&) {  // no file of tensors, or a part of one
      return false;
    }
  }

  // The true frames go through the model some at a time, as if all had been drafted.
  Dump dump(const MadeSong& song) {
    const PhiloxNoise noise(song.seed);
    LmBatch batch(models_.lm_ops(), models_.lm(),
                  {.streams = song.settings.sampling.streams(),
                   .positions = required_context(models_.lm_config(), song.prompt, song.settings),
                   .frames = kFramesOfPass});
    batch.enter(0, song.settings.sampling.streams(), batch.ops().make_sampler(song.rule, noise));
    const SongBeginning beginning = {song.prompt.text_ids, song.prompt.reference_index, song.prompt.muq_embed, {}};
    while (!batch.prefill(0, beginning, batch.size().piece)) {
    }
    Sampler sampler(song.settings.sampling, noise);
    Dump dump;
    dump.tokens.reserve(song.frames.size() * kCodebooks * static_cast<size_t>(most_tokens(song)));
    dump.logits.reserve(dump.tokens.capacity());
    const int64_t place = 0;
    batch.open({}, {&place, 1});
    read_open_frames(batch, song, sampler, 0, dump);
    batch.keep(0, 1);
    std::vector<FedFrame> fed;
    for (int64_t first = 1; first < std::ssize(song.frames); first += std::ssize(fed)) {
      models_.release_embeddings();
      fed.clear();
      const int64_t end = std::min(first + kFramesOfPass, std::ssize(song.frames));
      for (int64_t t = first; t < end; ++t) fed.push_back({0, song.frames[static_cast<size_t>(t - 1)]});
      batch.open(fed, {});
      read_open_frames(batch, song, sampler, first, dump);
      batch.keep(0, std::ssize(fed));
    }
    return dump;
  }

  // Frames `first` and those behind it that are open.
  void read_open_frames(LmBatch& batch, const MadeSong& song, Sampler& sampler, int64_t first, Dump& dump) {
    FrameDecoder& decoder = batch.decoder();
    const auto count = std::ssize(decoder.open_frames());
    const int64_t streams = song.settings.sampling.streams();
    const auto old = dump.hidden.size();
    const ConstView hidden = decoder.hidden().slice_rows(0, decoder.rows());
    dump.hidden.resize(old + static_cast<size_t>(hidden.rows * hidden.cols));
    batch.ops().download(std::span(dump.hidden).subspan(old), hidden);

    const auto of_frame = static_cast<size_t>(kCodebooks * most_tokens(song));
    const size_t begin = dump.tokens.size();
    dump.tokens.resize(begin + static_cast<size_t>(count) * of_frame, -1);
    dump.logits.resize(dump.tokens.size(), -std::numeric_limits<float>::infinity());
    const auto truth = std::span(song.frames).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    for (int64_t codebook = 0; codebook < kCodebooks; ++codebook) {
      std::span<const float> logits;
      if (codebook == 0) {
        logits = decoder.first_logits();
      } else {
        if (codebook == 1) read_truth(decoder, truth);
        logits = decoder.drafted_logits(codebook);
      }
      const auto vocabulary = static_cast<size_t>(models_.lm_config().audio_vocab_size);
      for (int64_t i = 0; i < count; ++i) {
        const auto at = static_cast<size_t>(i * streams) * vocabulary;
        sampler.sample(logits.subspan(at, static_cast<size_t>(streams) * vocabulary), static_cast<uint32_t>(first + i),
                       static_cast<uint32_t>(codebook), song.rule.allowed(first + i));
        keep(sampler.guided(), song, first + i);
        const size_t to = begin + static_cast<size_t>(i) * of_frame + static_cast<size_t>(codebook * most_tokens(song));
        for (size_t k = 0; k < order_.size(); ++k) {
          dump.tokens[to + k] = kept_.tokens[order_[k]];
          dump.logits[to + k] = kept_.logits[order_[k]];
        }
      }
    }
  }

  static void read_truth(FrameDecoder& decoder, std::span<const Frame> truth) {
    std::vector<int64_t> frames(truth.size());
    std::iota(frames.begin(), frames.end(), 0);
    decoder.read_drafts(frames, truth, std::vector<int64_t>(truth.size(), 1));
  }

  // Of guided logits, to kept_, and to order_ the largest of them.
  void keep(std::span<const float> guided, const MadeSong& song, int64_t frame) {
    kept_.keep(song.settings.sampling, guided, song.rule.allowed(frame));
    order_.resize(kept_.tokens.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::stable_sort(order_, [&](size_t a, size_t b) { return kept_.logits[a] > kept_.logits[b]; });
    order_.resize(std::min(order_.size(), static_cast<size_t>(most_tokens(song))));  // ties are kept beyond topk
  }

  void write(const MadeSong& song, const Dump& dump) {
    const auto frames = std::ssize(song.frames);
    const int64_t streams = song.settings.sampling.streams();
    const int64_t width = models_.lm_config().backbone.embed_dim;
    const DType dtype = models_.lm().dtype;
    std::vector<std::byte> hidden(dump.hidden.size() * dtype_size(dtype));
    if (dtype == DType::kF32) {
      std::ranges::copy(std::as_bytes(std::span(dump.hidden)), hidden.begin());
    } else {
      const std::span values(reinterpret_cast<uint16_t*>(hidden.data()), dump.hidden.size());
      std::ranges::transform(dump.hidden, values.begin(), f32_to_bf16);
    }
    const std::vector<int64_t> kept = {frames, kCodebooks, most_tokens(song)};
    const std::vector<TensorToWrite> tensors = {
        {"codes", DType::kI32, {frames, kCodebooks}, std::as_bytes(std::span(song.frames))},
        {"hidden", dtype, {frames, streams, width}, hidden},
        {"tokens", DType::kI32, kept, std::as_bytes(std::span(dump.tokens))},
        {"logits", DType::kF32, kept, std::as_bytes(std::span(dump.logits))}};
    AtomicFile file(path_of(song));
    file.write(encode_safetensors(tensors, {{kMetadata, metadata(song)}}));
    file.commit(false);
  }

  fs::path folder_;
  Models models_;
  std::vector<MadeSong> songs_;
  // Of the code in hand.
  KeptCodes kept_;
  std::vector<size_t> order_;
};

}  // namespace

void dump_drafts(const DraftDumpOptions& options, const std::function<void(const std::string&)>& note,
                 const CancelToken* cancel) {
  Dumper(options, cancel).run(note);
}

}  // namespace heartmula

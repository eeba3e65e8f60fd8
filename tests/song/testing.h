// Short songs with the smallest checkpoint.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/testing.h"
#include "song/generator.h"

namespace heartmula {

inline const std::filesystem::path kTiny = HEARTMULA_TEST_DATA "/tiny1";

/// tiny1, but its songs never end before their length.
inline const std::string& endless_checkpoint() {
  namespace fs = std::filesystem;
  static const TemporaryFolder folder;
  static const bool made = [] {
    for (const char* part : {"HeartMuLa-oss-3B", "HeartCodec-oss", "tokenizer.json"}) {
      fs::create_symlink(kTiny / part, folder / part);
    }
    std::ifstream file(kTiny / "gen_config.json");
    nlohmann::json config = nlohmann::json::parse(file);
    config["audio_eos_id"] = 69;  // the number of codes: none ends a song
    folder.write("gen_config.json", config.dump());
    return true;
  }();
  static const std::string path = made ? folder.path().string() : "";
  return path;
}

/// `frames` frames, and the codec as quick as it can be.
inline Request short_request(int64_t frames) {
  Request request;
  request.checkpoint.model_path = endless_checkpoint();
  request.song.lyrics = "[verse]\nla la";
  request.song.tags = "piano,happy";
  request.song.max_audio_length_ms = (frames - 1) * kFrameMs;
  request.codec.flow.steps = 1;
  request.codec.flow.guidance = 1;
  request.song.seed = 12;
  request.machine.threads = 2;
  return request;
}

struct MadeSong {
  std::vector<Frame> frames;
  std::vector<float> left;
  std::vector<float> right;
  SongOutcome outcome;
  bool operator==(const MadeSong& other) const {
    return frames == other.frames && left == other.left && right == other.right;
  }
};

inline std::unique_ptr<Models> models_for(const Request& request) {
  const ModelOptions options = {
      .checkpoint = {request.checkpoint.model_path, request.checkpoint.version, request.checkpoint.mula_dtype,
                     request.checkpoint.codec_dtype},
      .machine = {.lazy_load = request.machine.lazy_load, .threads = request.machine.threads}};
  return std::make_unique<Models>(options, CheckpointParts::kAll, nullptr);
}

/// What reached the hooks stays in `song`, also when this throws. `more` hears of everything after it.
inline void make_song(MadeSong& song, Models& models, const Request& request, std::span<const Frame> begin = {},
                      const SongHooks& more = {}, const CancelToken* cancel = nullptr) {
  models.lm_ops().set_cancel_token(cancel);
  models.codec_ops().set_cancel_token(cancel);
  song.frames.assign(begin.begin(), begin.end());
  SongText text = make_song_text(models, request.song);
  resolve_passages(text, models, request.song);
  const SongHooks hooks = {
      .progress = more.progress,
      .frame =
          [&](int64_t index, const Frame& frame) {
            EXPECT_EQ(index, static_cast<int64_t>(song.frames.size()));
            song.frames.push_back(frame);
            if (more.frame) more.frame(index, frame);
          },
      .audio =
          [&](std::span<const float> left, std::span<const float> right) {
            song.left.insert(song.left.end(), left.begin(), left.end());
            song.right.insert(song.right.end(), right.begin(), right.end());
            if (more.audio) more.audio(left, right);
          },
  };
  song.outcome = generate_song(models, request, text, begin, hooks, cancel);
}

inline MadeSong whole_song(const Request& request, std::span<const Frame> begin = {}) {
  MadeSong song;
  make_song(song, *models_for(request), request, begin);
  return song;
}

}  // namespace heartmula

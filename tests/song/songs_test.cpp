// Songs beside each other: each is what it is alone, whatever comes of the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <stdexcept>
#include <thread>

#include "heartmula/heartmula.h"
#include "song/songs_plan.h"
#include "song/testing.h"

namespace heartmula {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Stop : std::runtime_error {
  Stop() : std::runtime_error("stop") {}
};

/// Songs that are made at once, and what came of each.
class Songs {
 public:
  struct Song {
    Request request;
    SongText text;
    std::vector<Frame> begin;
    MadeSong made;
    SongHooks more = {};  // hear of everything after `made`
    CancelToken cancel;
    std::exception_ptr error;
    bool is_over = false;
  };

  explicit Songs(const Request& base) : models_(models_for(base)) {}

  Song& add(const Request& request, std::vector<Frame> begin = {}) {
    Song& song = songs_.emplace_back();
    song.request = request;
    song.text = make_song_text(*models_, request.song);
    resolve_passages(song.text, *models_, request.song);
    song.begin = std::move(begin);
    song.made.frames = song.begin;
    return song;
  }
  Song& at(size_t song) { return songs_[song]; }
  Models& models() { return *models_; }

  void make(int64_t songs_at_once, const CancelToken* cancel = nullptr) {
    models_->set_cancel_token(cancel);
    std::vector<SongWork> works;
    for (size_t i = 0; i < songs_.size(); ++i) works.push_back(work(i));
    generate_songs(*models_, works, songs_at_once, 0, {}, cancel);
    for (const Song& song : songs_) EXPECT_TRUE(song.is_over);
  }

  /// As they come: a song has come when `comes` says so; after the last one none is waited for.
  void make_as_they_come(const SongsRoom& room, std::function<bool(size_t song)> comes) {
    class Source final : public SongSource {
     public:
      Source(Songs& songs, std::function<bool(size_t)> comes) : songs_(songs), comes_(std::move(comes)) {}
      const SongWork* next() override {
        if (works_.size() == songs_.songs_.size() || !comes_(works_.size())) return nullptr;
        works_.push_back(songs_.work(works_.size()));
        return &works_.back();
      }
      bool wait() override {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ++songs_.waits;
        return works_.size() < songs_.songs_.size();
      }

     private:
      Songs& songs_;
      std::function<bool(size_t)> comes_;
      std::deque<SongWork> works_;
    };
    Source source(*this, std::move(comes));
    generate_songs(*models_, source, room, {}, nullptr);
    for (const Song& song : songs_) EXPECT_TRUE(song.is_over);
  }

  int64_t waits = 0;  // of the frame loop, for songs
  /// In the order of their first frames, and of their ends.
  std::vector<size_t> begun;
  std::vector<size_t> ended;
  int64_t most_at_once = 0;

 private:
  SongWork work(size_t number) {
    Song& song = songs_[number];
    return {.request = &song.request,
            .text = &song.text,
            .begin = song.begin,
            .cancel = &song.cancel,
            .hooks = {.progress = song.more.progress,
                      .frame =
                          [&song](int64_t index, const Frame& frame) {
                            EXPECT_EQ(index, static_cast<int64_t>(song.made.frames.size()));
                            song.made.frames.push_back(frame);
                            if (song.more.frame) song.more.frame(index, frame);
                          },
                      .audio =
                          [&song](std::span<const float> left, std::span<const float> right) {
                            song.made.left.insert(song.made.left.end(), left.begin(), left.end());
                            song.made.right.insert(song.made.right.end(), right.begin(), right.end());
                            if (song.more.audio) song.more.audio(left, right);
                          },
                      .has_frames =
                          [this, number](int64_t) {
                            ended.push_back(number);
                            --in_frames_;
                          }},
            .enters =
                [this, number] {
                  begun.push_back(number);
                  most_at_once = std::max(most_at_once, ++in_frames_);
                },
            .made =
                [&song](const SongOutcome& outcome) {
                  song.made.outcome = outcome;
                  EXPECT_FALSE(std::exchange(song.is_over, true));
                },
            .failed =
                [&song](const std::exception_ptr& error) {
                  song.error = error;
                  EXPECT_FALSE(std::exchange(song.is_over, true));
                }};
  }

  std::unique_ptr<Models> models_;
  std::deque<Song> songs_;
  int64_t in_frames_ = 0;
};

Request song_request(int64_t frames, uint64_t seed) {
  Request request = short_request(frames);
  request.song.seed = seed;
  return request;
}

/// Whether the error is one of this type.
template <typename Exception>
bool holds(const std::exception_ptr& error) {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const Exception&) {
    return true;
  } catch (...) {
    return false;
  }
}

/// The parameter: one model at a time.
class ManySongs : public testing::TestWithParam<bool> {
 protected:
  Request base() const {
    Request request = short_request(9);
    request.machine.lazy_load = GetParam();
    return request;
  }
  Request song(int64_t frames, uint64_t seed) const {
    Request request = song_request(frames, seed);
    request.machine.lazy_load = GetParam();
    return request;
  }
};

TEST(SongsThatCome, are_made_between_others_and_after_a_silence) {
  std::vector<Request> requests = {song_request(40, 1), song_request(20, 2), song_request(kWindowCodes + 3, 3),
                                   song_request(9, 4)};
  Songs songs(requests[0]);
  for (const Request& request : requests) songs.add(request);
  const SongsRoom room = {
      .songs_at_once = 2, .streams = 2, .positions = kWindowCodes + 200, .machine = requests[0].machine};
  songs.make_as_they_come(room, [&](size_t song) {
    if (song == 1) return songs.at(0).made.frames.size() > 10;         // while the first is made
    if (song == 3) return songs.ended.size() == 3 && songs.waits > 5;  // when nothing is left to do but audio
    return true;
  });
  EXPECT_GT(songs.waits, 5);
  EXPECT_EQ(songs.most_at_once, 2);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_FALSE(songs.at(i).error);
    EXPECT_EQ(songs.at(i).made, whole_song(requests[i])) << "song " << i;
  }
}

TEST(SongsThatCome, one_that_does_not_fit_fails_alone) {
  Songs songs(song_request(5, 1));
  songs.add(song_request(5, 1));
  songs.add(song_request(300, 2));
  songs.add(song_request(6, 3));
  const SongsRoom room = {.songs_at_once = 3, .streams = 2, .positions = 100, .machine = short_request(5).machine};
  songs.make_as_they_come(room, [](size_t) { return true; });
  EXPECT_FALSE(songs.at(0).error);
  EXPECT_TRUE(songs.at(1).error);
  EXPECT_FALSE(songs.at(2).error);
  EXPECT_EQ(songs.at(2).made, whole_song(song_request(6, 3)));
}

TEST_P(ManySongs, are_what_they_are_alone) {
  // Of different lengths, prompts and guidance, and two of more than one window.
  std::vector<Request> requests = {song(9, 1), song(kWindowCodes + 20, 2), song(1, 3), song(30, 4),
                                   song(kWindowCodes + 3, 5)};
  requests[3].song.lyrics = "[chorus]\nlo lo lo la\n\n[verse]\nla";
  requests[3].song.cfg_scale = 1;
  requests[0].codec.flow.steps = 2;
  requests[0].codec.flow.guidance = 1.25;
  std::vector<MadeSong> alone;
  for (const Request& request : requests) alone.push_back(whole_song(request));
  for (const int64_t at_once : {1, 2, 5}) {
    Songs songs(base());
    for (const Request& request : requests) songs.add(request);
    songs.make(at_once);
    EXPECT_EQ(songs.most_at_once, at_once);
    EXPECT_THAT(songs.begun, ElementsAre(0, 1, 2, 3, 4));
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(songs.at(i).made, alone[i]) << "song " << i << ", " << at_once << " at once";
      EXPECT_EQ(songs.at(i).made.outcome.frames, static_cast<int64_t>(songs.at(i).made.frames.size()));
      EXPECT_EQ(songs.at(i).made.outcome.new_frames, songs.at(i).made.outcome.frames);
      EXPECT_GT(songs.at(i).made.outcome.codec_seconds, 0);
    }
  }
}

TEST_P(ManySongs, enter_when_others_have_their_frames) {
  Songs songs(base());
  for (const int64_t frames : {40, 5, 5, 30}) songs.add(song(frames, static_cast<uint64_t>(frames)));
  songs.make(2);
  EXPECT_THAT(songs.begun, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(songs.ended, ElementsAre(1, 2, 0, 3));
}

TEST_P(ManySongs, go_on_from_their_frames) {
  const Request request = song(20, 7);
  const MadeSong whole = whole_song(request);
  Songs songs(base());
  for (const size_t kept : {0, 3, 20, 19}) {
    songs.add(request, {whole.frames.begin(), whole.frames.begin() + static_cast<std::ptrdiff_t>(kept)});
  }
  songs.make(3);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(songs.at(i).made, whole) << i;
}

TEST_P(ManySongs, one_that_fails_leaves_the_others_alone) {
  Songs songs(base());
  for (const Request& request : {song(12, 1), song(9, 2), song(12, 3), song(12, 4), song(12, 5)}) songs.add(request);
  songs.at(1).text.prompts[0].muq_embed = {1, 2, 3};
  songs.at(2).more.frame = [](int64_t index, const Frame&) {
    if (index == 4) throw Stop();
  };
  songs.at(3).more.audio = [](std::span<const float>, std::span<const float>) { throw Stop(); };
  songs.at(4).more.progress = [&](std::string_view stage, int64_t done, int64_t, double) {
    if (stage == "frames" && done == 7) songs.at(4).cancel.cancel();
  };
  const Songs::Song& last = songs.add(song(12, 6));
  songs.make(3);
  EXPECT_EQ(songs.at(0).made, whole_song(song(12, 1)));
  EXPECT_EQ(last.made, whole_song(song(12, 6)));
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { std::rethrow_exception(songs.at(1).error); }),
              HasSubstr("style vector"));
  EXPECT_TRUE(holds<Stop>(songs.at(2).error));
  EXPECT_EQ(songs.at(2).made.frames.size(), 5u);
  EXPECT_TRUE(holds<Stop>(songs.at(3).error));
  EXPECT_EQ(songs.at(3).made.frames.size(), 12u);
  error_of(ErrorKind::kCancelled, [&] { std::rethrow_exception(songs.at(4).error); });
  EXPECT_EQ(songs.at(4).made.frames.size(), 7u);
}

TEST_P(ManySongs, that_are_cancelled_end_all_and_can_be_made_again) {
  const MadeSong whole = whole_song(song(30, 2));
  for (const std::string_view where : {"frames", "codec"}) {
    CancelToken token;
    Songs songs(base());
    for (const int64_t frames : {5, 30, 30, 30}) songs.add(song(frames, 2));
    for (size_t i = 0; i < 4; ++i) {
      songs.at(i).more.progress = [&](std::string_view stage, int64_t done, int64_t, double) {
        if (stage == where && (stage == "codec" || done == 20)) token.cancel();
      };
    }
    songs.make(2, &token);
    for (size_t i = where == "codec" ? 0 : 1; i < 4; ++i) {
      error_of(ErrorKind::kCancelled, [&] { std::rethrow_exception(songs.at(i).error); });
    }
    MadeSong again;
    make_song(again, songs.models(), song(30, 2));
    EXPECT_EQ(again, whole) << "the models are spoilt";
  }
}

TEST_P(ManySongs, what_is_not_there_for_one_is_its_failure) {
  Songs songs(base());
  songs.add(song(5, 1));
  songs.add(song(5, 2));
  CancelToken cancelled;
  cancelled.cancel();
  songs.make(2, &cancelled);
  for (size_t i = 0; i < 2; ++i) {
    error_of(ErrorKind::kCancelled, [&] { std::rethrow_exception(songs.at(i).error); });
    EXPECT_TRUE(songs.at(i).made.frames.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, ManySongs, testing::Bool(),
                         [](const auto& mode) { return mode.param ? "one_model_at_a_time" : "beside"; });

TEST(ManySongsBeside, finished_ones_are_heard_while_frames_of_others_are_made) {
  Songs songs(short_request(9));
  songs.add(song_request(5, 1));
  songs.add(song_request(600, 2));
  std::atomic<int64_t> frames{0};
  std::atomic<int64_t> heard_at{-1};
  songs.at(0).more.audio = [&](std::span<const float>, std::span<const float>) { heard_at = frames.load(); };
  songs.at(1).more.frame = [&](int64_t index, const Frame&) { frames = index; };
  songs.make(2);
  EXPECT_GE(heard_at, 0);
  EXPECT_LT(heard_at, 599);
}

TEST(ManySongsBeside, an_error_of_the_audio_ends_its_frames_soon) {
  Request base = short_request(9);
  base.machine.overlap = 1;
  Songs songs(base);
  for (const uint64_t seed : {1, 2}) {
    Request request = song_request(kWindowCodes + 500, seed);
    request.machine.overlap = 1;
    songs.add(request);
  }
  std::atomic<bool> thrown{false};
  songs.at(0).more = {.frame =
                          [&](int64_t index, const Frame&) {
                            if (index > kWindowCodes && !thrown) {
                              std::this_thread::sleep_for(std::chrono::milliseconds(5));
                            }
                          },
                      .audio =
                          [&](std::span<const float>, std::span<const float>) {
                            thrown = true;
                            throw Stop();
                          }};
  songs.make(2);
  EXPECT_TRUE(holds<Stop>(songs.at(0).error));
  EXPECT_LT(songs.at(0).made.frames.size(), static_cast<size_t>(kWindowCodes + 500));
  EXPECT_FALSE(songs.at(1).error);
  EXPECT_EQ(songs.at(1).made.frames.size(), static_cast<size_t>(kWindowCodes + 500));
}

TEST(SongsPlan, counts_the_songs_that_are_made_at_once) {
  const auto models = models_for(short_request(9));
  const SongSize small = {.context = 40};
  SongSize large = {.context = 90, .frames = 1000};
  large.codec.order = WindowOrder::kParallel;
  const std::vector<SongSize> sizes = {small, large, small};
  const auto lm = [&](int64_t at_once) {
    const SongsPlan plan = plan_songs(*models, sizes, at_once);
    EXPECT_EQ(plan.memory.songs, std::min<int64_t>(at_once, 3));
    EXPECT_NO_THROW(check_plan(*models, plan, sizes));
    return plan.memory;
  };
  EXPECT_EQ(lm(3).lm->cache, 3 * lm(1).lm->cache);
  EXPECT_GT(lm(2).lm->activations, lm(1).lm->activations);
  EXPECT_EQ(lm(9).lm->cache, lm(3).lm->cache);
  EXPECT_EQ(lm(2).codec->activations, lm(1).codec->activations);
  EXPECT_EQ(lm(1).codec->activations, plan_memory(*models, large).codec->activations);
  EXPECT_EQ(lm(1).lm->cache, plan_memory(*models, large).lm->cache);
  EXPECT_EQ(plan_songs(*models, sizes, {}).memory.songs, 3);
  EXPECT_EQ(plan_songs(*models, std::vector<SongSize>(20, small), {}).memory.songs, kSongsAtOnce);
}

TEST(Library, makes_songs_longer_than_the_context) {
  const TemporaryFolder folder;
  const std::filesystem::path endless = endless_checkpoint();
  for (const char* part : {"HeartCodec-oss", "tokenizer.json", "gen_config.json"}) {
    std::filesystem::create_symlink(endless / part, folder / part);
  }
  const std::filesystem::path lm = endless / "HeartMuLa-oss-3B";
  std::filesystem::create_directory(folder / "HeartMuLa-oss-3B");
  std::filesystem::create_symlink(lm / "model.safetensors", folder / "HeartMuLa-oss-3B/model.safetensors");
  std::ifstream file(lm / "config.json");
  nlohmann::json config = nlohmann::json::parse(file);
  config["backbone"]["max_seq_len"] = 60;
  folder.write("HeartMuLa-oss-3B/config.json", config.dump());

  Model model({.model_path = folder.path().string(), .threads = 2});
  SongRequest song;
  song.lyrics = "la la";
  song.tags = "piano";
  song.max_audio_length_ms = 99 * kFrameMs;
  song.seed = 1;
  song.codec.steps = 1;
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { model.generate(song, {}); }), HasSubstr("context of 60"));
  song.long_song = "glide";
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { model.generate(song, {}); }), HasSubstr("slide or chapters"));
  song.long_song = "slide";
  const std::vector<Frame> frames = model.generate(song, {}).frames;
  EXPECT_EQ(frames.size(), 100U);
  song.begin.assign(frames.begin(), frames.begin() + 70);
  EXPECT_EQ(model.generate(song, {}).frames, frames);
}

TEST(Library, makes_many_songs_with_one_model) {
  Model model({.model_path = endless_checkpoint(), .threads = 2});
  const auto request = [](uint64_t seed, int64_t frames) {
    SongRequest song;
    song.lyrics = "la la";
    song.tags = "piano";
    song.max_audio_length_ms = (frames - 1) * kFrameMs;
    song.seed = seed;
    song.codec.steps = 1;
    return song;
  };
  std::vector<std::vector<float>> heard(4);
  std::vector<SongTask> tasks(4);
  for (size_t i = 0; i < 4; ++i) {
    tasks[i].request = request(i, 5 + static_cast<int64_t>(i));
    tasks[i].callbacks.audio = [&heard, i](std::span<const float> left, std::span<const float>) {
      heard[i].insert(heard[i].end(), left.begin(), left.end());
    };
  }
  tasks[1].request.topk = 0;
  tasks[2].callbacks.frame = [](int64_t index, const Frame&) {
    if (index == 3) throw Stop();
  };
  for (const int64_t at_once : {0, 2}) {
    heard.assign(4, {});
    const std::vector<SongResult> results = model.generate_songs(tasks, at_once);
    ASSERT_EQ(results.size(), 4u);
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { std::rethrow_exception(results[1].error); }), HasSubstr("topk"));
    EXPECT_TRUE(holds<Stop>(results[2].error));
    EXPECT_EQ(results[2].song.frames.size(), 4u);
    for (const size_t i : {0, 3}) {
      EXPECT_FALSE(results[i].error);
      std::vector<float> alone;
      Callbacks callbacks;
      callbacks.audio = [&](std::span<const float> left, std::span<const float>) {
        alone.insert(alone.end(), left.begin(), left.end());
      };
      const Song song = model.generate(tasks[i].request, callbacks);
      EXPECT_EQ(results[i].song.frames, song.frames);
      EXPECT_EQ(results[i].song.seed, i);
      EXPECT_EQ(heard[i], alone);
    }
  }
  EXPECT_TRUE(model.generate_songs({}).empty());
  EXPECT_THROW(model.generate_songs(tasks, -1), Error);
}

}  // namespace
}  // namespace heartmula

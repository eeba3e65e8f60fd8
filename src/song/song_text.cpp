#include "song/song_text.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "base/error.h"
#include "text/chapters.h"

namespace heartmula {
namespace {

constexpr int64_t kLongestMs = 24 * 3'600'000;

// Chapters fill three quarters of the context, so that few of them have to slide.
int64_t chapters_of(int64_t max_frames, int64_t context) {
  return (4 * max_frames + 3 * context - 1) / (3 * context);
}

// Each begins where its share of the lyrics does.
std::vector<Chapter> make_chapters(SongText& text, Models& models, const SongSettings& song, int64_t max_frames) {
  const std::vector<std::string> parts =
      split_chapters(song.lyrics, chapters_of(max_frames, models.lm_config().backbone.max_seq_len));
  text.prompts.reserve(1 + parts.size());  // chapters point at them
  std::vector<Chapter> chapters;
  size_t before = 0;  // bytes
  for (const std::string& part : parts) {
    text.prompts.push_back(make_prompt(models.tokenizer(), models.gen_config(), song.tags, part));
    text.prompts.back().muq_embed = text.prompt().muq_embed;
    const double share = static_cast<double>(before) / static_cast<double>(std::max<size_t>(1, song.lyrics.size()));
    chapters.push_back({&text.prompts.back(), static_cast<int64_t>(share * static_cast<double>(max_frames))});
    before += part.size();
  }
  return chapters;
}

}  // namespace

SongText make_song_text(Models& models, const SongSettings& song) {
  return {.prompts = {make_prompt(models.tokenizer(), models.gen_config(), song.tags, song.lyrics)}, .passages = {}};
}

void resolve_passages(SongText& text, Models& models, const SongSettings& song) {
  const LmConfig& config = models.lm_config();
  FrameLoopSettings settings = song.frame_loop(models.gen_config().audio_eos_id);
  const int64_t max_frames = settings.max_frames();
  const int64_t context = config.backbone.max_seq_len;
  const bool fits = std::ssize(text.prompt().text_ids) + max_frames - 1 <= context;
  if (song.long_song == LongSong::kNone || fits) {
    text.context = required_context(config, text.prompt(), settings);
    return;
  }
  if (settings.max_audio_length_ms > kLongestMs) {
    throw user_error("--max_audio_length_ms is {}, but a song is at most {} ms long", settings.max_audio_length_ms,
                     kLongestMs);
  }
  std::vector<Chapter> chapters = {{&text.prompt(), 0}};
  if (song.long_song == LongSong::kChapters) chapters = make_chapters(text, models, song, max_frames);
  settings.max_audio_length_ms = 0;
  for (const Prompt& prompt : text.prompts) required_context(config, prompt, settings);
  text.passages = passages_of(chapters, context, max_frames);
  text.context = context;
}

}  // namespace heartmula

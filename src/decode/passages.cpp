#include "decode/passages.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "heartmula/frame.h"

namespace heartmula {

std::vector<Passage> passages_of(std::span<const Chapter> chapters, int64_t context, int64_t max_frames) {
  std::vector<Passage> passages;
  for (size_t i = 0; i < chapters.size(); ++i) {
    const auto prompt = std::ssize(chapters[i].prompt->text_ids);
    const int64_t end = i + 1 < chapters.size() ? chapters[i + 1].begin : max_frames;
    const int64_t room = context - prompt;  // frames beside the prompt
    if (room < prompt) {
      throw user_error(
          "tags and lyrics make {} tokens, more than half of the model's context of {}: shorten the lyrics", prompt,
          context);
    }
    Passage passage = {chapters[i].prompt, chapters[i].begin,
                       std::max<int64_t>(0, chapters[i].begin - std::min(kChapterPastMs / kFrameMs, room / 2))};
    while (passage.begin < end) {
      passages.push_back(passage);
      passage.begin = passage.past + room + 1;  // the last frame is not fed
      passage.past = passage.begin - room / 2;
    }
  }
  return passages;
}

size_t passage_at(std::span<const Passage> passages, int64_t number) {
  const auto after = std::ranges::upper_bound(passages, number, {}, &Passage::begin);
  return static_cast<size_t>(after - passages.begin()) - 1;
}

}  // namespace heartmula

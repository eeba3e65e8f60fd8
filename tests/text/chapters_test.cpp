#include "text/chapters.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace heartmula {
namespace {

TEST(Chapters, begin_with_section_marks) {
  const std::string lyrics = "before\n[Intro]\n[Verse]\none\ntwo\n[Chorus]\nthree\n  [Verse] \nfour\nfive\nsix\n";
  EXPECT_EQ(split_chapters(lyrics, 1), std::vector<std::string>{lyrics});
  EXPECT_EQ(split_chapters(lyrics, 2), (std::vector<std::string>{"before\n[Intro]\n[Verse]\none\ntwo\n",
                                                                 "[Chorus]\nthree\n  [Verse] \nfour\nfive\nsix\n"}));
  EXPECT_EQ(split_chapters(lyrics, 99),
            (std::vector<std::string>{"before\n[Intro]\n", "[Verse]\none\ntwo\n", "[Chorus]\nthree\n",
                                      "  [Verse] \nfour\nfive\nsix\n"}));
}

TEST(Chapters, lyrics_without_marks_are_one) {
  for (const char* lyrics : {"", "la", "la\nla [not a mark] la\n", "[open\nclosed]"}) {
    EXPECT_EQ(split_chapters(lyrics, 5), std::vector<std::string>{lyrics});
  }
}

TEST(Chapters, are_the_lyrics_together_and_as_many_as_there_may_be) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::string lyrics;
    int64_t sections = 0;
    for (auto line = random() % 30; line > 0; --line) {
      const bool is_mark = random() % 3 == 0;
      sections += is_mark ? 1 : 0;
      lyrics += is_mark ? "[Verse]\n" : std::string(random() % 40, 'x') + "\n";
    }
    const auto most = static_cast<int64_t>(1 + random() % 8);
    const std::vector<std::string> chapters = split_chapters(lyrics, most);
    EXPECT_EQ(std::accumulate(chapters.begin(), chapters.end(), std::string()), lyrics);
    EXPECT_EQ(std::ssize(chapters), std::clamp<int64_t>(most, 1, std::max<int64_t>(1, sections)));
  }
}

}  // namespace
}  // namespace heartmula

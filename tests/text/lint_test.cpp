#include "text/lint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>

#include "base/testing.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

using Warnings = std::vector<LintWarning>;

const std::filesystem::path kDemo = HEARTMULA_TEST_DATA "/../../../demo";
const std::filesystem::path kExamples = HEARTMULA_TEST_DATA "/../../../examples";

// heartlib's assets/lyrics.txt, which its README recommends as the format (Apache License 2.0), and its tags.
constexpr std::string_view kReleasedLyrics = R"([Intro]

[Verse]
The sun creeps in across the floor
I hear the traffic outside the door
The coffee pot begins to hiss
It is another morning just like this

[Prechorus]
The world keeps spinning round and round
Feet are planted on the ground
I find my rhythm in the sound

[Chorus]
Every day the light returns
Every day the fire burns
We keep on walking down this street
Moving to the same steady beat
It is the ordinary magic that we meet

[Verse]
The hours tick deeply into noon
Chasing shadows,chasing the moon
Work is done and the lights go low
Watching the city start to glow

[Bridge]
It is not always easy,not always bright
Sometimes we wrestle with the night
But we make it to the morning light

[Chorus]
Every day the light returns
Every day the fire burns
We keep on walking down this street
Moving to the same steady beat

[Outro]
Just another day
Every single day)";

const Vocabulary& demo() {
  static const Vocabulary known = find_vocabulary(kDemo);
  return known;
}

const Vocabulary& released() {
  static const Vocabulary known = Vocabulary::released();
  return known;
}

std::vector<std::string> codes(const Warnings& warnings) {
  std::vector<std::string> codes;
  for (const LintWarning& warning : warnings) codes.push_back(warning.code);
  return codes;
}

/// Words enough for two minutes, so that only what stands before them is told.
const std::string& song() {
  static const std::string song = [] {
    std::string lines = "\n[Verse]\n";
    for (int i = 0; i < 12; ++i) lines += "the river runs along the road again\n";
    return lines;
  }();
  return song;
}

Warnings lint_lyrics(const std::string& lyrics, const Vocabulary& known = released(),
                     std::optional<int64_t> max_ms = std::nullopt) {
  return lint({.lyrics = lyrics, .tags = std::nullopt, .max_audio_length_ms = max_ms}, known);
}

/// A line, and a song behind it.
Warnings lint_line(const std::string& line, const Vocabulary& known = released()) {
  return lint_lyrics(line + song(), known);
}

Warnings lint_tags(const std::string& tags, const Vocabulary& known = released()) {
  return lint({.lyrics = std::nullopt, .tags = tags, .max_audio_length_ms = std::nullopt}, known);
}

/// Exactly one warning, of this code, with this suggestion; returns its message.
std::string one(const Warnings& warnings, const std::string& code,
                const std::optional<std::string>& suggestion = std::nullopt) {
  EXPECT_THAT(codes(warnings), ElementsAre(code));
  if (warnings.size() != 1) return {};
  EXPECT_EQ(warnings[0].suggestion, suggestion);
  EXPECT_THAT(warnings[0].message, Not(HasSubstr("\n")));
  return warnings[0].message;
}

TEST(Lint, says_nothing_of_the_released_examples) {
  for (const auto ms : {std::optional<int64_t>(), std::optional<int64_t>(240'000), std::optional<int64_t>(120'000)}) {
    for (const std::string_view tags : {"piano,happy\n", "piano,happy,wedding,synthesizer,romantic"}) {
      EXPECT_THAT(codes(lint({kReleasedLyrics, tags, ms}, released())), IsEmpty());
    }
  }
  EXPECT_THAT(codes(lint({kReleasedLyrics, "<tag>piano,happy</tag>", 240'000}, released())), IsEmpty());
}

TEST(Lint, says_nothing_of_our_own_examples) {
  const std::string lyrics = contents(kDemo / "lyrics.txt");
  const std::string tags = contents(kDemo / "tags.txt");
  for (const auto ms : {std::optional<int64_t>(), std::optional<int64_t>(240'000), std::optional<int64_t>(24'000)}) {
    EXPECT_THAT(codes(lint({lyrics, tags, ms}, demo())), IsEmpty());
  }
  EXPECT_THAT(codes(lint({"[intro]\n\n[verse]\nblue moon over the sea\nsing to me again\n\n[outro]\n",
                          "fast,happy,rock,guitar,drums,bass", 24'000},
                         demo())),
              IsEmpty());
  const std::string example = contents(kExamples / "lyrics.txt");
  const std::string example_tags = contents(kExamples / "tags.txt");
  EXPECT_THAT(codes(lint({example, example_tags, 240'000}, released())), IsEmpty());
}

TEST(Lint, says_nothing_of_songs_in_the_languages_of_the_model) {
  for (const char* line :
       {"La luna azul se levanta ¿y tú dónde estás?", "月亮代表我的心，你问我爱你有多深",
        "夜に駆けるあなたの声がラララ、きれいだ", "사랑해요 그대만을 영원히", "Don’t stop – it’s “now” (oh yeah)…"}) {
    EXPECT_THAT(codes(lint_line(std::string("[Verse]\n") + line)), IsEmpty()) << line;
  }
}

TEST(Lint, a_section_that_the_model_does_not_know_is_sung) {
  EXPECT_EQ(one(lint_line("[Drop]"), "unknown-section", "[Bridge]"),
            "[Drop] is no section that the model knows; it will be sung: use [Bridge]");
  one(lint_line("[Hook]"), "unknown-section", "[Chorus]");
  one(lint_line("[hook 2]"), "unknown-section", "[chorus]");
  one(lint_line("[Chrous]"), "unknown-section", "[Chorus]");
  one(lint_line("[副歌]"), "unknown-section", "[Chorus]");
  one(lint_line("[サビ]"), "unknown-section", "[Chorus]");
  one(lint_line("[Estribillo]"), "unknown-section", "[Chorus]");
  EXPECT_THAT(one(lint_line("[Applause]"), "unknown-section"), HasSubstr("intro, verse, prechorus"));
  one(lint_line("[]"), "unknown-section");
  EXPECT_THAT(codes(lint_lyrics("[bridge]\nblue moon over the sea\n[verse]\nsing to me", demo())),
              ElementsAre("unknown-section"));
  EXPECT_EQ(lint_lyrics("[bridge]\nblue moon over the sea\n[verse]\nsing to me", demo())[0].suggestion, "[verse]");
}

TEST(Lint, a_known_section_is_written_as_the_model_was_trained) {
  one(lint_line("[Pre-Chorus]"), "section-spelling", "[Prechorus]");
  one(lint_line("[ Verse ]"), "section-spelling", "[Verse]");
  for (const char* written : {"[Verse 1]", "[Verse2]", "[VERSE #2]", "[Verse II]", "[Verse One]"}) {
    one(lint_line(written), "numbered-section", "[Verse]");
  }
  one(lint_line("[Chorus x2]"), "numbered-section", "[Chorus]");
  EXPECT_THAT(one(lint_line("[Verse 1: female voice]"), "described-section", "[Verse]"), HasSubstr("[Verse 1: female"));
  one(lint_line("[Intro - soft piano]"), "described-section", "[Intro]");
  one(lint_line("[Verse with choir]"), "described-section", "[Verse]");
  EXPECT_THAT(codes(lint_line("[VERSE]")), IsEmpty()) << "prompts are in lower case";
}

TEST(Lint, a_section_mark_stands_alone_in_square_brackets) {
  one(lint_line("[Verse] blue moon"), "text-after-section", "[Verse]\nblue moon");
  EXPECT_THAT(codes(lint_line("[Verse 1] blue moon")), UnorderedElementsAre("numbered-section", "text-after-section"));
  for (const char* written : {"(Chorus)", "{Chorus}", "<Chorus>", "【Chorus】", "［Chorus］", "**Chorus**", "*Chorus*",
                              "## Chorus", "(Chorus 2)", "(Hook)", "(Chorus: all)", "【副歌】"}) {
    one(lint_line(written), "section-in-other-brackets", "[Chorus]");
  }
  for (const char* written : {"Chorus:", "Chorus", "CHORUS", "Chorus 2", "Chorus 2:", "Pre-Chorus"}) {
    one(lint_line(written), "section-without-brackets", written[0] == 'P' ? "[Prechorus]" : "[Chorus]");
  }
  one(lint_line("Verse 1: blue moon"), "section-without-brackets", "[Verse]\nblue moon");
  one(lint_line("[Chorus"), "unclosed-section", "[Chorus]");
  for (const char* sung :
       {"(oh yeah)", "(chorus of angels)", "Bridge", "bridge over water", "he said: go", "the verse"}) {
    EXPECT_THAT(codes(lint_line(sung)), IsEmpty()) << sung;
  }
  one(lint_line("blue [Am] moon"), "brackets-in-line");
}

TEST(Lint, lyrics_without_sections) {
  const Warnings warnings = lint_lyrics(song().substr(song().find("the")));
  one(warnings, "no-sections", "[Verse]\nthe river runs along the road again");
  EXPECT_EQ(warnings[0].line, 1);
}

TEST(Lint, what_is_no_song_text_in_lyrics) {
  one(lint_line("[00:12.34] blue moon"), "lrc-mark", "blue moon");
  one(lint_line("[ar: Somebody]"), "lrc-mark", "");
  one(lint_line("la la (x2)"), "repeat-mark", "la la\nla la");
  one(lint_line("la la 3x"), "repeat-mark", "la la\nla la\nla la");
  one(lint_line("<i>blue</i> moon<br/>"), "html", "blue moon");
  one(lint_line("salt &amp; sea"), "html", "salt & sea");
  one(lint_line("blue **moon**"), "markdown", "blue moon");
  one(lint_line("# Blue moon"), "markdown", "Blue moon");
  one(lint_line("---"), "markdown", "");
  one(lint_line("> blue moon"), "markdown", "blue moon");
  one(lint_line("{blue} moon"), "curly-braces");
  one(lint_line("by www.example.com"), "link");
  one(lint_line("<|begin_of_text|>blue"), "special-token");
  for (const char* sung :
       {"I <3 you", "f*** and s***", "rock & roll", "two > one < three", "x marks 4 of 5", "#1 - me"}) {
    EXPECT_THAT(codes(lint_line(sung)), IsEmpty()) << sung;
  }
}

TEST(Lint, characters_that_nobody_sees) {
  one(lint_line("blue\u200B moon"), "invisible-character", "blue moon");
  EXPECT_THAT(one(lint_line("\uFEFFblue moon"), "invisible-character", "blue moon"), HasSubstr("byte order mark"));
  one(lint_line("blue\u200D moon"), "invisible-character", "blue moon");
  one(lint_line("blue\u202E moon"), "direction-control", "blue moon");
  one(lint_line("blue\u00A0moon"), "non-breaking-space", "blue moon");
  one(lint_line("cafe\u0301"), "decomposed", "caf\u00E9");
  one(lint_line("\u1100\u1161"), "decomposed", "가");
  EXPECT_THAT(codes(lint_line("👩\u200D🚀 blue moon ❤\uFE0F")), IsEmpty());
  EXPECT_THAT(codes(lint_tags("pia\u200Bno")), ElementsAre("invisible-character"));
}

TEST(Lint, scripts_that_the_model_was_not_trained_on) {
  EXPECT_THAT(one(lint_line("синяя луна над морем"), "unknown-script"),
              AllOf(HasSubstr("Cyrillic"), HasSubstr("Korean")));
  EXPECT_EQ(lint_line("\nсиняя луна\nнад морем")[0].line, 2);
  EXPECT_THAT(codes(lint_lyrics("[verse]\n月亮 moon\nsing to me again", demo())), ElementsAre("unknown-script"));
  EXPECT_THAT(codes(lint_tags("рок,piano")), ElementsAre("unknown-script"));
}

TEST(Lint, words_that_a_small_model_does_not_know) {
  const Warnings warnings = lint_lyrics("[verse]\nblue xylophone, over Kilimanjaro!\nsing to me again", demo());
  EXPECT_THAT(one(warnings, "unknown-word"), AllOf(HasSubstr("xylophone, kilimanjaro"), HasSubstr("vocabulary.json")));
  EXPECT_EQ(warnings[0].line, 2);
}

TEST(Lint, lyrics_and_the_length_of_the_song) {
  EXPECT_THAT(one(lint_lyrics(song(), released(), 20'000), "too-long"), HasSubstr("ends after 20 s"));
  EXPECT_THAT(codes(lint_lyrics(song(), released(), 60'000)), IsEmpty());
  one(lint_lyrics("[Verse]\nBlue moon over the sea\nsing to me again and again\nuntil the morning\ncomes", released(),
                  240'000),
      "too-short");
  one(lint_lyrics("[Verse]\nBlue moon"), "too-short");
  EXPECT_THAT(codes(lint_lyrics("[Verse]\n那一天我在河边看见你的影子\n风吹过来带走所有的声音\n", released(), 4'000)),
              ElementsAre("too-long"));

  std::string lines = "[verse]\n";
  for (int i = 0; i < 10; ++i) lines += "blue moon over the sea\n";
  const auto with_tags = [&](const char* tags, int64_t ms) { return codes(lint({lines, tags, ms}, demo())); };
  EXPECT_THAT(with_tags("fast", 30'000), IsEmpty());
  EXPECT_THAT(with_tags("slow", 30'000), ElementsAre("too-long"));
  EXPECT_THAT(with_tags("slow", 240'000), ElementsAre("longer-than-trained"));
}

TEST(Lint, lyrics_with_nothing_to_sing) {
  for (const char* lyrics : {"", "\n \n", "[Intro]\n\n[Verse]"}) one(lint_lyrics(lyrics), "no-lyrics");
}

TEST(Lint, texts_in_the_wrong_field) {
  one(lint_lyrics("piano,happy,wedding"), "lyrics-look-like-tags");
  EXPECT_THAT(codes(lint_lyrics("Hello, it is me", released())), Not(Contains("lyrics-look-like-tags")));
  one(lint_tags("[Verse]\nblue moon"), "tags-look-like-lyrics");
  one(lint_tags("blue moon over the sea\nsing to me again"), "tags-look-like-lyrics");
}

TEST(Lint, tags_are_words_between_commas) {
  one(lint_tags("piano, happy"), "space-around-comma", "piano,happy");
  one(lint_tags("Piano,Happy"), "capitals-in-tags", "piano,happy");
  one(lint_tags("piano,,happy"), "empty-tag", "piano,happy");
  one(lint_tags("piano,happy,"), "empty-tag", "piano,happy");
  one(lint_tags("piano,happy,piano"), "duplicate-tag", "piano,happy");
  one(lint_tags("piano;happy"), "tag-separator", "piano,happy");
  one(lint_tags("piano，happy"), "tag-separator", "piano,happy");
  one(lint_tags("piano\nhappy"), "tag-separator", "piano,happy");
  one(lint_tags("a happy song about the sea"), "long-tag");
  one(lint_tags("piano,**happy**"), "markup-in-tags");
  one(lint_tags(" \n"), "no-tags");
  one(lint_tags("piano,happy,fast,warm,soft,female,party,study,bass"), "too-many-tags");
  one(lint_tags("rock,pop,jazz"), "tags-exclude-each-other");
  for (const char* tags : {"piano", "r&b,lo-fi,85bpm", "female voice,70s soul,pop", "piano,happy\n"}) {
    EXPECT_THAT(codes(lint_tags(tags)), IsEmpty()) << tags;
  }
}

TEST(Lint, tags_that_a_checkpoint_does_not_list) {
  EXPECT_THAT(one(lint_tags("fast,gitar", demo()), "unknown-tag", "fast,guitar"), HasSubstr("use guitar"));
  one(lint_tags("fast,electric guitar", demo()), "unknown-tag", "fast,guitar");
  EXPECT_THAT(one(lint_tags("fast,theremin", demo()), "unknown-tag"), HasSubstr("lullaby"));
  EXPECT_THAT(one(lint_tags("fast,slow", demo()), "tags-exclude-each-other"), HasSubstr("keep one"));
}

TEST(Lint, of_one_kind_only_so_many_are_told) {
  std::string lyrics;
  for (int i = 0; i < 100; ++i) lyrics += "[Applause]\n";
  const Warnings warnings = lint_line(lyrics);
  ASSERT_EQ(warnings.size(), 21u);
  EXPECT_EQ(warnings[19].line, 20);
  EXPECT_EQ(warnings[20].message, "and 80 more of these");
}

TEST(Lint, lines_are_counted_however_they_end) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    const Warnings warnings = lint_line("[Verse]" + end + end + "[Drop]" + end);
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_EQ(warnings[0].line, 3);
  }
}

TEST(Lint, a_text_that_is_not_utf8_is_refused) {
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { lint_lyrics("a\x80"); }), HasSubstr("lyrics"));
  EXPECT_THAT(error_of(ErrorKind::kUser, [] { lint_tags("\xff"); }), HasSubstr("tags"));
}

TEST(Lint, long_texts_take_no_longer_for_each_byte) {
  constexpr size_t kBytes = size_t{1} << 20;
  for (const std::string part :
       {"[",      "]",  "[x]\n", "[abcd]", "(",        "<a",  "<a>", "&amp",   "{",         "**a ",
        "*",      "# ", ",",     "a,",     "abcdefg,", "[\n", "x\n", "four\n", "Chorus:\n", "a\u0301\u0316",
        "\u200B", "の", "a ",    "[Verse"}) {
    std::string text;
    while (text.size() < kBytes) text += part;
    const auto begin = std::chrono::steady_clock::now();
    lint({text, text, 240'000}, demo());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(seconds.count(), 10) << part;  // half a second where nothing else runs and nothing is checked
  }
}

TEST(Vocabulary, what_a_file_leaves_out_is_as_released) {
  const Vocabulary known = Vocabulary::parse(R"({"sections": ["verse", "drop"]})", "v");
  EXPECT_FALSE(known.tags_known);
  EXPECT_EQ(known.tags, released().tags);
  EXPECT_THAT(codes(lint_line("[Drop]", known)), IsEmpty());
  EXPECT_TRUE(demo().tags_known);
  EXPECT_EQ(demo().tags.size(), 17u);
  EXPECT_EQ(demo().most_tags, 6u);
  EXPECT_THAT(demo().sections, ElementsAre("intro", "verse", "chorus", "outro"));
}

TEST(Vocabulary, what_is_wrong_is_told_in_a_line) {
  const auto told = [](const std::string& json) {
    return error_of(ErrorKind::kUser, [&] { Vocabulary::parse(json, "v.json"); });
  };
  for (const char* json : {"",
                           "[]",
                           "{",
                           R"({"tags": 3})",
                           R"({"tags": [3]})",
                           R"({"tags": [""]})",
                           R"({"tags": ["a", "a"]})",
                           R"({"tags": ["A"]})",
                           R"({"tags": ["a,b"]})",
                           R"({"tags": ["a\nb"]})",
                           R"({"tags": ["a\u202eb"]})",
                           R"({"one_of": ["a"]})",
                           R"({"most_tags": 0})",
                           R"({"sections": {}})",
                           R"({"scripts": ["Klingon"]})",
                           R"({"words": null})",
                           R"({"seconds": [1]})",
                           R"({"seconds": [2, 1]})",
                           R"({"seconds": [-1, 1]})",
                           R"({"seconds": [1, 1e300]})",
                           R"({"seconds_per_line": [1, 2]})",
                           R"({"seconds_per_line": {"a": "b"}})"}) {
    EXPECT_THAT(told(json), AllOf(HasSubstr("v.json: "), Not(HasSubstr("\n")))) << json;
  }
  EXPECT_THAT(told(R"({"tags": [")" + std::string(101, 'a') + R"("]})"), HasSubstr("100 bytes"));
  std::string many = R"({"sections": ["x")";
  for (int i = 0; i < 64; ++i) many += ",\"" + std::to_string(i) + "\"";
  EXPECT_THAT(told(many + "]}"), HasSubstr("at most 64"));
}

}  // namespace
}  // namespace heartmula

#include "text/lint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/message.h"
#include "text/section_names.h"
#include "text/spelling.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

using Kind = SectionName::Kind;
using Suggestion = std::optional<std::string>;

constexpr size_t kMostOfACode = 20;
constexpr size_t kLongestSuggestion = 4096;  // bytes of the line, or of the tags, that it would stand for
constexpr size_t kShown = 60;                // bytes of a text in a message
constexpr std::string_view kAsciiSpace = " \t\r\n\v\f";

// How many syllables are sung in a second, over a whole song. Most: four, the eighth notes of 120 beats a minute, above
// which sung melody is hard to follow; rap comes to speech, 6.2 in English (Pellegrino et al., Language 87, 2011).
// Fewest: one, the 200 words of an ordinary rock or country song of four minutes, breaks included. A checkpoint that
// says how long its lines are is believed instead.
constexpr double kMostSyllables = 4.0;
constexpr double kMostRapSyllables = 6.2;
constexpr double kFewestSyllables = 1.0;
// A song of less is filled by singing it again: heartlib's issue 114, of nursery rhymes that were to be short.
constexpr double kFewestInAll = 20.0;
constexpr double kFarTooLong = 4.0;  // times what even slow singing takes
constexpr size_t kMostWordsOfATag = 5;

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kAsciiSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kAsciiSpace) - begin + 1);
}

std::string shown(std::string_view text) {
  return shortened(text, kShown);
}

template <typename List>
bool contains(const List& list, const std::string& value) {
  return std::ranges::find(list, value) != std::end(list);
}

bool is_ascii_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string spoken_list(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

std::vector<std::string_view> split(std::string_view text, char mark) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(mark, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// What ends it in "\n", "\r\n" or "\r" is one line.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find_first_of("\r\n", begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
    if (end + 1 < text.size() && text[end] == '\r' && text[end + 1] == '\n') ++begin;
  }
  return lines;
}

/// Collects warnings, of each code and field not more than anybody reads.
class Warnings {
 public:
  explicit Warnings(std::string field) : field_(std::move(field)) {}

  /// `text` is what the suggestion would stand for.
  void add(std::optional<int64_t> line, const char* code, const std::string& message,
           Suggestion suggestion = std::nullopt, std::string_view text = {}) {
    if (text.size() > kLongestSuggestion) suggestion.reset();
    if (counts_[code]++ < kMostOfACode) {
      warnings_.push_back({field_, line, code, escaped(message), std::move(suggestion)});
    }
  }
  /// Whether add() would keep it: what is costly to find out need not be found out.
  bool wants(const char* code) const {
    const auto count = counts_.find(code);
    return count == counts_.end() || count->second < kMostOfACode;
  }
  /// One that is not wanted.
  void pass(const char* code) { ++counts_[code]; }

  void move_to(std::vector<LintWarning>& all) {
    for (const auto& [code, count] : counts_) {
      if (count <= kMostOfACode) continue;
      warnings_.push_back({field_, std::nullopt, code, fmt::format("and {} more of these", count - kMostOfACode), {}});
    }
    const auto place = [](const LintWarning& warning) { return warning.line.value_or(INT64_MAX); };
    std::ranges::stable_sort(warnings_, {}, place);
    std::ranges::move(warnings_, std::back_inserter(all));
  }

 private:
  std::string field_;
  std::map<std::string, size_t, std::less<>> counts_;
  std::vector<LintWarning> warnings_;
};

// ---- what is wrong with characters, in lyrics and in tags ----

/// A joiner is needed between emoji and in scripts that join letters.
bool needs_joiner(char32_t before) {
  if (is_pictograph(before) || before == 0xFE0F || (before >= 0x1F3FB && before <= 0x1F3FF)) return true;
  static const std::set<int> kPlain = {*find_script("Latin"), *find_script("Han"), *find_script("Hiragana"),
                                       *find_script("Katakana"), *find_script("Hangul")};
  if (before < 0x300) return false;
  const std::optional<int> script = script_of(before);
  return !script || !kPlain.contains(*script);  // a mark of a script that joins is of no script of its own
}

void check_hidden(Warnings& warnings, std::optional<int64_t> line, std::string_view text) {
  if (is_ascii(text)) return;
  std::map<Hidden, char32_t> first;
  std::string cleaned;
  char32_t before = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_character(text, at);
    Hidden kind = hidden(c);
    if (kind == Hidden::kJoiner) kind = needs_joiner(before) ? Hidden::kNo : Hidden::kInvisible;
    before = c;
    if (kind != Hidden::kNo) first.emplace(kind, c);
    if (kind == Hidden::kFixedSpace) {
      cleaned += ' ';
    } else if (kind == Hidden::kNo) {
      cleaned += text.substr(begin, at - begin);
    }
  }
  for (const auto& [kind, c] : first) {
    const std::string name = fmt::format("U+{:04X}", static_cast<uint32_t>(c));
    if (kind == Hidden::kFixedSpace) {
      warnings.add(line, "non-breaking-space",
                   fmt::format("the space {} is another token than an ordinary one: write an ordinary space", name),
                   cleaned, text);
    } else if (kind == Hidden::kDirection) {
      warnings.add(
          line, "direction-control",
          fmt::format("{} turns the direction of writing, nobody sees it and the model reads it: remove it", name),
          cleaned, text);
    } else {
      warnings.add(line, "invisible-character",
                   fmt::format("{}{} is invisible, but the model reads it: remove it", name,
                               c == 0xFEFF ? " (a byte order mark)" : ""),
                   cleaned, text);
    }
  }
}

void check_composed(Warnings& warnings, std::optional<int64_t> line, std::string_view text) {
  // Ordering a long row of accents takes the square of its length; no line of a song is that long.
  if (is_ascii(text) || text.size() > kLongestSuggestion) return;
  std::string whole = composed(text);
  if (whole == text) return;
  warnings.add(line, "decomposed",
               "letters and their accents are separate characters, which are other tokens: write them as one", whole,
               text);
}

/// How often letters of each script that the model was not trained on occur.
class Scripts {
 public:
  explicit Scripts(const Vocabulary& known) : known_(known) {}

  void count(std::string_view text, std::optional<int64_t> line) {
    for (size_t at = 0; at < text.size();) {
      if (static_cast<unsigned char>(text[at]) < 0x80) {
        ++at;
        continue;
      }
      const std::optional<int> script = script_of(next_character(text, at));
      if (script) add(*script, line);
    }
    has_ascii_ = has_ascii_ || std::ranges::any_of(text, is_ascii_letter);
    if (has_ascii_ && !ascii_line_) ascii_line_ = line;
  }

  void tell(Warnings& warnings, const char* what) const {
    std::map<int, Found> found = found_;
    if (has_ascii_) found.emplace(latin(), Found{0, ascii_line_});
    for (const auto& [script, where] : found) {
      if (is_known(script)) continue;
      warnings.add(
          where.line, "unknown-script",
          fmt::format("the model was trained on {} in {}, not on {} letters: expect other sounds than these words; "
                      "write them in a language that it knows",
                      what, spoken_list(known_.languages), script_name(script)));
    }
  }

  bool is_known(int script) const { return std::ranges::find(known_.scripts, script) != known_.scripts.end(); }

 private:
  struct Found {
    int64_t letters = 0;
    std::optional<int64_t> line;
  };
  static int latin() {
    static const int kLatin = *find_script("Latin");
    return kLatin;
  }
  void add(int script, std::optional<int64_t> line) {
    Found& found = found_.try_emplace(script, Found{0, line}).first->second;
    ++found.letters;
  }

  const Vocabulary& known_;
  std::map<int, Found> found_;
  bool has_ascii_ = false;
  std::optional<int64_t> ascii_line_;
};

// ---- markup ----

/// The text between "<" and ">" of the first HTML tag, or an entity: "<b>", "&amp;".
std::optional<std::string> first_html(std::string_view text) {
  const size_t last_end = text.rfind('>');
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '<' && last_end != std::string_view::npos && i < last_end) {
      const bool is_tag = is_ascii_letter(text[i + 1]) || text[i + 1] == '/' || text[i + 1] == '!';
      if (is_tag) return std::string(text.substr(i, text.find('>', i) - i + 1));
    }
    if (text[i] == '&') {
      size_t end = i + 1;
      while (end < text.size() && end < i + 10 &&
             (is_ascii_letter(text[end]) || is_digit(text[end]) || text[end] == '#')) {
        ++end;
      }
      if (end > i + 2 && end < text.size() && text[end] == ';') return std::string(text.substr(i, end - i + 1));
    }
  }
  return std::nullopt;
}

/// Without tags, with what entities stand for.
std::string without_html(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kEntities = {{{"&amp;", "&"},
                                                                                       {"&lt;", "<"},
                                                                                       {"&gt;", ">"},
                                                                                       {"&quot;", "\""},
                                                                                       {"&apos;", "'"},
                                                                                       {"&#39;", "'"},
                                                                                       {"&nbsp;", " "}}};
  const size_t last_end = text.rfind('>');
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const bool may_be_tag = text[i] == '<' && last_end != std::string_view::npos && i + 1 < last_end;
    if (may_be_tag && (is_ascii_letter(text[i + 1]) || text[i + 1] == '/' || text[i + 1] == '!')) {
      i = text.find('>', i) + 1;
      continue;
    }
    const auto entity = std::ranges::find_if(
        kEntities, [&](const auto& pair) { return text[i] == '&' && text.substr(i).starts_with(pair.first); });
    if (entity != kEntities.end()) {
      result += entity->second;
      i += entity->first.size();
    } else {
      result += text[i++];
    }
  }
  return std::string(trimmed(result));
}

std::string without(std::string_view text, std::string_view mark) {
  std::string result;
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i).starts_with(mark)) {
      i += mark.size();
    } else {
      result += text[i++];
    }
  }
  return result;
}

/// Two of `mark`, the first before a word.
bool encloses(std::string_view text, std::string_view mark) {
  for (size_t begin = text.find(mark); begin != std::string_view::npos; begin = text.find(mark, begin + 1)) {
    const size_t behind = begin + mark.size();
    if (behind >= text.size()) return false;
    const bool at_word = begin == 0 || text[begin - 1] == ' ';
    const char next = text[behind];
    if (at_word && next != ' ' && next != mark[0]) return text.find(mark, behind) != std::string_view::npos;
  }
  return false;
}

struct Markup {
  const char* code = nullptr;
  std::string what;
  Suggestion instead;
};

std::optional<Markup> find_markup(std::string_view text) {
  if (const size_t begin = text.find("<|"); begin != std::string_view::npos && text.find("|>", begin) < text.size()) {
    return Markup{"special-token", "a token that frames prompts", std::nullopt};
  }
  if (const auto html = first_html(text)) return Markup{"html", *html + " (HTML)", without_html(text)};
  for (const char* link : {"http://", "https://", "www."}) {
    if (text.find(link) != std::string_view::npos) return Markup{"link", "a link", std::nullopt};
  }
  const bool is_rule = text.size() >= 3 && (text[0] == '-' || text[0] == '*' || text[0] == '_' || text[0] == '=') &&
                       text.find_first_not_of(text[0]) == std::string_view::npos;
  if (is_rule) return Markup{"markdown", "a line of Markdown", ""};
  if (text.starts_with("```")) return Markup{"markdown", "a fence of Markdown", ""};
  const size_t heading = text.find_first_not_of('#');
  if (heading != 0 && heading != std::string_view::npos && text[heading] == ' ') {
    return Markup{"markdown", "a heading of Markdown", std::string(trimmed(text.substr(heading)))};
  }
  for (const char* begin : {"> ", "* ", "+ "}) {
    if (text.starts_with(begin)) {
      return Markup{"markdown", fmt::format("\"{}\" of Markdown", text[0]), std::string(trimmed(text.substr(2)))};
    }
  }
  for (const char* mark : {"**", "__", "~~"}) {
    if (encloses(text, mark)) return Markup{"markdown", fmt::format("{} of Markdown", mark), without(text, mark)};
  }
  if (text.find('{') != std::string_view::npos || text.find('}') != std::string_view::npos) {
    return Markup{"curly-braces", "what stands in curly braces", std::nullopt};
  }
  return std::nullopt;
}

// ---- lyrics ----

/// A line in other brackets than those of section marks, or emphasized: "(Chorus)", "**Chorus**", "## Chorus".
std::optional<std::string_view> enclosed_otherwise(std::string_view line) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kBrackets = {{{"(", ")"},
                                                                                       {"{", "}"},
                                                                                       {"<", ">"},
                                                                                       {"（", "）"},
                                                                                       {"【", "】"},
                                                                                       {"［", "］"},
                                                                                       {"「", "」"},
                                                                                       {"**", "**"},
                                                                                       {"*", "*"}}};
  const size_t heading = line.find_first_not_of('#');
  if (heading != 0 && heading != std::string_view::npos) return trimmed(line.substr(heading));
  for (const auto& [open, close] : kBrackets) {
    if (line.size() > open.size() + close.size() && line.starts_with(open) && line.ends_with(close)) {
      return trimmed(line.substr(open.size(), line.size() - open.size() - close.size()));
    }
  }
  return std::nullopt;
}

/// "00:12.34" or "ti:Blue moon" of an LRC file.
bool is_lrc(std::string_view inside) {
  const size_t colon = inside.find(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view front = inside.substr(0, colon);
  const std::string_view back = inside.substr(colon + 1);
  if (std::ranges::all_of(front, is_digit)) {
    return !back.empty() && std::ranges::all_of(back, [](char c) { return is_digit(c) || c == '.' || c == ':'; });
  }
  constexpr std::array<std::string_view, 9> kFields = {"ti", "ar", "al", "au", "by", "offset", "length", "re", "ve"};
  return std::ranges::find(kFields, front) != kFields.end();
}

struct Repeated {
  std::string_view text;  // what is before the mark
  int times = 0;
};

/// "la la (x2)", "la la 2x", "la la [×3]".
std::optional<Repeated> repeated(std::string_view line) {
  const size_t space = line.find_last_of(' ');
  std::string_view word = space == std::string_view::npos ? line : line.substr(space + 1);
  const std::string_view before = space == std::string_view::npos ? std::string_view() : trimmed(line.substr(0, space));
  while (!word.empty() && (word.front() == '(' || word.front() == '[')) word.remove_prefix(1);
  while (!word.empty() && (word.back() == ')' || word.back() == ']')) word.remove_suffix(1);
  std::string_view digits = word;
  for (const std::string_view mark : {"x", "X", "×"}) {
    if (digits.size() == word.size() && digits.starts_with(mark)) digits.remove_prefix(mark.size());
    if (digits.size() == word.size() && digits.ends_with(mark)) digits.remove_suffix(mark.size());
  }
  const bool is_count = digits.size() < word.size() && digits.size() == 1 && digits[0] >= '2' && digits[0] <= '9';
  if (!is_count) return std::nullopt;
  return Repeated{before, digits[0] - '0'};
}

class Lyrics {
 public:
  Lyrics(std::string_view text, const LintInput& input, const Vocabulary& known, std::string tags)
      : lines_(lines_of(text)),
        input_(input),
        known_(known),
        tags_(std::move(tags)),
        sections_(known.sections),
        scripts_(known) {}

  void check(std::vector<LintWarning>& all) {
    if (look_like_tags()) {
      warnings_.add(std::nullopt, "lyrics-look-like-tags",
                    "this is a list of tags, which will be sung: the lyrics are the words of the song");
    } else {
      for (size_t i = 0; i < lines_.size(); ++i) check_line(static_cast<int64_t>(i) + 1, lines_[i]);
      check_whole();
    }
    scripts_.tell(warnings_, "lyrics");
    warnings_.move_to(all);
  }

 private:
  bool look_like_tags() const {
    std::string_view only;
    for (const std::string_view line : lines_) {
      if (trimmed(line).empty()) continue;
      if (!only.empty()) return false;
      only = trimmed(line);
    }
    if (only.find(',') == std::string_view::npos || only.size() > kLongestSuggestion) return false;
    const std::vector<std::string_view> parts = split(only, ',');
    const auto is_tag = [&](std::string_view part) { return contains(known_.tags, lower_case(trimmed(part))); };
    return 2 * static_cast<size_t>(std::ranges::count_if(parts, is_tag)) >= parts.size();
  }

  std::string mark_like(const std::string& section, std::string_view written) const {
    // As the rest of a song that is all in lower case.
    const bool is_small = !written.empty() && written.front() >= 'a' && written.front() <= 'z';
    return is_small ? fmt::format("[{}]", section) : section_mark(section);
  }

  std::string use(const std::string& mark) const {
    return mark.empty() ? fmt::format("the sections that it knows are {}", spoken_list(known_.sections))
                        : "use " + mark;
  }

  void check_line(int64_t number, std::string_view raw) {
    check_hidden(warnings_, number, raw);
    check_composed(warnings_, number, raw);
    const std::string_view line = trimmed(raw);
    if (line.empty()) return;
    if (line.front() == '[') return check_bracket(number, line);
    if (check_other_mark(number, line)) return;
    if (const auto mark = repeated(line)) {
      Suggestion instead;
      if (!mark->text.empty()) {
        instead = std::string(mark->text);
        for (int i = 1; i < mark->times; ++i) *instead += fmt::format("\n{}", mark->text);
      }
      warnings_.add(number, "repeat-mark",
                    fmt::format("nothing is repeated by a mark, which is sung: write the line {} times", mark->times),
                    std::move(instead), line);
    } else if (const size_t open = line.find('['); open != std::string_view::npos) {
      const size_t close = line.find(']', open);
      const std::string_view inside = line.substr(open, close == std::string_view::npos ? close : close - open + 1);
      warnings_.add(
          number, "brackets-in-line",
          fmt::format("{} is sung where it stands: brackets mean something only on lines of their own", shown(inside)));
    } else if (auto markup = find_markup(line)) {
      warnings_.add(number, markup->code,
                    fmt::format("{} is sung or confuses the model: remove it", shown(markup->what)),
                    std::move(markup->instead), line);
    }
    sing(number, line);
  }

  /// A line that begins with a square bracket.
  void check_bracket(int64_t number, std::string_view line) {
    const size_t close = line.find(']');
    if (close == std::string_view::npos) {
      const SectionName name = sections_.read(trimmed(line.substr(1)));
      Suggestion instead;
      if (name.kind != Kind::kUnknown && !name.section.empty()) instead = mark_like(name.section, line.substr(1));
      warnings_.add(number, "unclosed-section",
                    "the bracket is not closed, so this line is sung: close it behind the name", std::move(instead),
                    line);
      return sing(number, line.substr(1));
    }
    const std::string_view inside = line.substr(1, close - 1);
    const std::string_view behind = trimmed(line.substr(close + 1));
    if (is_lrc(trimmed(inside))) {
      warnings_.add(number, "lrc-mark",
                    fmt::format("[{}] is of an LRC file, and will be sung: remove it", shown(inside)),
                    std::string(behind), line);
      return sing(number, behind);
    }
    has_marks_ = true;
    const SectionName name = sections_.read(inside, warnings_.wants("unknown-section"));
    const std::string mark = name.section.empty() ? "" : mark_like(name.section, trimmed(inside));
    const std::string written = fmt::format("[{}]", shown(inside));
    const Suggestion instead = mark.empty()     ? Suggestion()
                               : behind.empty() ? mark
                                                : fmt::format("{}\n{}", mark, behind);
    switch (name.kind) {
      case Kind::kKnown:
        break;
      case Kind::kSpelling:
        warnings_.add(
            number, "section-spelling",
            fmt::format("{} is not written as the model was trained, and may be sung: write {}", written, mark),
            instead, line);
        break;
      case Kind::kNumbered:
        warnings_.add(number, "numbered-section",
                      fmt::format("{} has a number, which the model's sections do not have; it may be sung: write {}",
                                  written, mark),
                      instead, line);
        break;
      case Kind::kDescribed:
        warnings_.add(
            number, "described-section",
            fmt::format("{} says more than a section's name; the rest is not followed but may be sung: write {}",
                        written, mark),
            instead, line);
        break;
      case Kind::kOther:
      case Kind::kSlip:
      case Kind::kUnknown:
        warnings_.add(
            number, "unknown-section",
            trimmed(inside).empty()
                ? "[] names no section; it may be sung: " + use(mark)
                : fmt::format("{} is no section that the model knows; it will be sung: {}", written, use(mark)),
            instead, line);
        break;
    }
    if (behind.empty()) return;
    warnings_.add(
        number, "text-after-section",
        fmt::format("{} stands before words on one line, and may be sung: put it on a line of its own", written),
        fmt::format("{}\n{}", mark.empty() ? std::string(line.substr(0, close + 1)) : mark, behind), line);
    sing(number, behind);
  }

  /// What is meant as a mark but has no square brackets: "(Chorus)", "Verse 1:", "Chorus".
  bool check_other_mark(int64_t number, std::string_view line) {
    if (const auto inside = enclosed_otherwise(line)) {
      const SectionName name = sections_.read(*inside);
      const bool is_name = name.kind != Kind::kUnknown && name.kind != Kind::kSlip && !name.section.empty();
      // "(Chorus of angels)" is sung by others.
      const bool is_described = name.kind == Kind::kDescribed && inside->find(':') == std::string_view::npos;
      if (is_name && !is_described) {
        const std::string mark = mark_like(name.section, *inside);
        warnings_.add(number, "section-in-other-brackets",
                      fmt::format("{} will be sung, as sections stand in square brackets: write {}", shown(line), mark),
                      mark, line);
        has_marks_ = true;
        return true;
      }
    }
    size_t colon = line.find(':');
    size_t width = 1;
    if (const size_t wide = line.find("："); wide < colon) {
      colon = wide;
      width = std::string_view("：").size();
    }
    const bool has_colon = colon != std::string_view::npos;
    const SectionName name = sections_.read(trimmed(line.substr(0, colon)));
    const bool is_name = name.kind == Kind::kKnown || name.kind == Kind::kSpelling || name.kind == Kind::kNumbered;
    const bool may_be_sung = !has_colon && name.kind != Kind::kNumbered && name.section == "bridge";  // a word of songs
    if (!is_name || may_be_sung) return false;
    const std::string mark = mark_like(name.section, line);
    const std::string_view behind = has_colon ? trimmed(line.substr(colon + width)) : std::string_view();
    warnings_.add(number, "section-without-brackets",
                  fmt::format("\"{}\" will be sung, as it is no section without brackets: write {}",
                              shown(trimmed(line.substr(0, has_colon ? colon + width : colon))), mark),
                  behind.empty() ? mark : fmt::format("{}\n{}", mark, behind), line);
    has_marks_ = true;
    if (!behind.empty()) sing(number, behind);
    return true;
  }

  /// What of a line is sung.
  void sing(int64_t number, std::string_view text) {
    if (text.empty()) return;
    if (first_sung_ == 0) first_sung_ = number;
    ++sung_lines_;
    scripts_.count(text, number);
    count_syllables(text);
    check_words(number, text);
  }

  void count_syllables(std::string_view text) {
    static const int kHan = *find_script("Han");
    static const int kHangul = *find_script("Hangul");
    static const std::array<int, 2> kKana = {*find_script("Hiragana"), *find_script("Katakana")};
    constexpr std::u32string_view kSmallKana = U"ぁぃぅぇぉゃゅょァィゥェォャュョ";
    constexpr double kLettersPerSyllable = 2.5;  // of other scripts
    bool in_vowel = false;
    bool after_vowel = false;
    bool in_word = false;
    int vowels = 0;
    char32_t last = 0;
    const auto end_word = [&] {
      const bool is_silent = last == U'e' && vowels > 1 && !after_vowel;  // "here"; two in "coffee"
      if (in_word) syllables_ += std::max(vowels - (is_silent ? 1 : 0), 1);
      in_word = in_vowel = false;
      vowels = 0;
    };
    for (size_t at = 0; at < text.size();) {
      const char32_t c = next_character(text, at);
      if (c < 0x250) {  // Latin: a group of vowels a syllable
        const char32_t small = c >= U'A' && c <= U'Z' ? c + 32 : c;
        const bool letter = (small >= U'a' && small <= U'z') || c >= 0xC0;
        if (!letter && c != '\'') {
          end_word();
          if (c >= U'0' && c <= U'9') syllables_ += 1;
        }
        if (!letter) continue;
        in_word = true;
        const bool vowel = std::u32string_view(U"aeiouy").find(small) != std::u32string_view::npos || c >= 0xC0;
        vowels += vowel && !in_vowel;
        after_vowel = in_vowel;
        in_vowel = vowel;
        last = small;
        continue;
      }
      end_word();
      const std::optional<int> script = script_of(c);
      if (!script) continue;
      if (*script == kHan) {
        ++han_;
      } else if (*script == kKana[0] || *script == kKana[1]) {
        has_kana_ = true;
        if (kSmallKana.find(c) == std::u32string_view::npos) syllables_ += 1;
      } else {
        syllables_ += *script == kHangul ? 1.0 : 1.0 / kLettersPerSyllable;
      }
    }
    end_word();
  }

  /// Words that a model of few words does not know.
  void check_words(int64_t number, std::string_view text) {
    if (known_.words.empty()) return;
    if (!warnings_.wants("unknown-word")) return warnings_.pass("unknown-word");
    std::vector<std::string> unknown;
    const std::string lower = lower_case(text);
    for (size_t at = 0; at < lower.size() && unknown.size() < 4;) {
      size_t end = at;
      bool is_foreign = false;
      while (end < lower.size()) {
        size_t next = end;
        const char32_t c = next_character(lower, next);
        if (!is_letter(c) && c != '\'' && c != 0x2019) break;
        const std::optional<int> script = script_of(c);
        is_foreign = is_foreign || (script && !scripts_.is_known(*script));
        end = next;
      }
      const std::string word(trimmed(std::string_view(lower).substr(at, end - at)));
      if (!word.empty() && !is_foreign && !std::ranges::binary_search(known_.words, word) && !contains(unknown, word)) {
        unknown.push_back(shown(word));
      }
      if (end == at) next_character(lower, end);
      at = end;
    }
    if (unknown.empty()) return;
    if (unknown.size() > 3) unknown[3] = "...";
    warnings_.add(
        number, "unknown-word",
        fmt::format("this small model was not trained on {}: expect other vowels; it knows {} words, listed in {}",
                    spoken_list(unknown), known_.words.size(), kVocabularyFile));
  }

  void check_whole() {
    if (sung_lines_ == 0) {
      warnings_.add(std::nullopt, "no-lyrics",
                    "there is nothing to sing: the song is instrumental, for which the model was not trained");
      return;
    }
    if (!has_marks_ && !known_.sections.empty()) {
      const std::string mark = section_mark(contains(known_.sections, "verse") ? "verse" : known_.sections.front());
      const std::string_view first = lines_[static_cast<size_t>(first_sung_) - 1];
      warnings_.add(
          first_sung_, "no-sections",
          fmt::format("no section is marked, which the model's lyrics were: put lines such as {} between parts", mark),
          fmt::format("{}\n{}", mark, trimmed(first)), first);
    }
    check_length();
  }

  Range sung_seconds() const {
    if (known_.seconds_per_line.empty()) {
      const double syllables = syllables_ + static_cast<double>(han_) * (has_kana_ ? 2 : 1);
      const bool is_rap = tags_.find("rap") != std::string::npos || tags_.find("hip") != std::string::npos;
      return {syllables / (is_rap ? kMostRapSyllables : kMostSyllables), syllables / kFewestSyllables};
    }
    Range line{1e9, 0};
    std::set<std::string> tags;
    for (const std::string_view tag : split(tags_, ',')) tags.emplace(trimmed(tag));
    const bool is_named =
        std::ranges::any_of(known_.seconds_per_line, [&](const auto& line_of) { return tags.contains(line_of.first); });
    for (const auto& [tag, seconds] : known_.seconds_per_line) {
      if (is_named && !tags.contains(tag)) continue;
      line = {std::min(line.least, seconds.least), std::max(line.most, seconds.most)};
    }
    const auto lines = static_cast<double>(sung_lines_);
    return {lines * line.least, lines * line.most};
  }

  void check_length() {
    const Range sung = sung_seconds();
    const double longest = input_.max_audio_length_ms ? static_cast<double>(*input_.max_audio_length_ms) / 1000 : 0;
    if (longest > 0 && sung.least > longest) {
      warnings_.add(
          std::nullopt, "too-long",
          fmt::format("singing this takes {:.0f} s at the least, but the song ends after {:.0f} s: the end will be "
                      "missing; take lines out, or make max_audio_length_ms longer",
                      std::ceil(sung.least), longest));
    } else if (known_.seconds.most > 0 && sung.least > known_.seconds.most) {
      warnings_.add(
          std::nullopt, "longer-than-trained",
          fmt::format("singing this takes {:.0f} s at the least, but the model's songs had at most {:.0f} s: it "
                      "may lose its way; take lines out",
                      std::ceil(sung.least), known_.seconds.most));
    }
    // A model that says how long its lines are was taught to stop behind them.
    if (!known_.seconds_per_line.empty()) {
      if (sung.most < known_.seconds.least / 2) too_short(sung.most);
    } else if (sung.most < kFewestInAll) {
      too_short(sung.most);
    } else if (longest > kFarTooLong * sung.most) {
      warnings_.add(
          std::nullopt, "too-short",
          fmt::format("these are words for {:.0f} to {:.0f} s, far less than {:.0f} s: the song ends early, or they "
                      "are sung again; write more, or make max_audio_length_ms shorter",
                      std::ceil(sung.least), std::ceil(sung.most), longest));
    }
  }

  void too_short(double seconds) {
    warnings_.add(
        std::nullopt, "too-short",
        fmt::format("these are words for at most {:.0f} s, and the model makes longer songs: they are sung again, "
                    "or it goes on with its own; write more lines",
                    std::ceil(seconds)));
  }

  Warnings warnings_{"lyrics"};
  std::vector<std::string_view> lines_;
  const LintInput& input_;
  const Vocabulary& known_;
  std::string tags_;  // in lower case
  SectionReader sections_;
  Scripts scripts_;
  bool has_marks_ = false;
  bool has_kana_ = false;
  int64_t first_sung_ = 0;
  int64_t sung_lines_ = 0;
  int64_t han_ = 0;
  double syllables_ = 0;
};

// ---- tags ----

/// What the model wraps tags in, if they have it already.
std::string_view unwrapped(std::string_view text) {
  if (text.starts_with("<tag>")) text.remove_prefix(5);
  if (text.ends_with("</tag>")) text.remove_suffix(6);
  return text;
}

size_t word_count(std::string_view text) {
  size_t words = 0;
  bool in_word = false;
  for (const char c : text) {
    const bool is_space = kAsciiSpace.find(c) != std::string_view::npos;
    words += !is_space && !in_word;
    in_word = !is_space;
  }
  return words;
}

class Tags {
 public:
  Tags(std::string_view text, const Vocabulary& known)
      : text_(text), known_(known), tags_(known.tags.begin(), known.tags.end()), scripts_(known) {}

  void check(std::vector<LintWarning>& all) {
    check_hidden(warnings_, std::nullopt, text_);
    check_composed(warnings_, std::nullopt, text_);
    // A file's last line end is in the released example, too.
    const std::string_view text = trimmed(unwrapped(trimmed(text_)));
    scripts_.count(text, std::nullopt);
    scripts_.tell(warnings_, "tags");
    if (text.empty()) {
      add("no-tags", "there are no tags: the model chooses the style; name a genre, a mood or an instrument");
    } else if (look_like_lyrics(text)) {
      add("tags-look-like-lyrics",
          "these are lines of a text: tags are words such as piano,happy; what is to be sung belongs into the lyrics");
    } else {
      check_list(text);
    }
    warnings_.move_to(all);
  }

 private:
  void add(const char* code, const std::string& message, Suggestion suggestion = std::nullopt) {
    warnings_.add(std::nullopt, code, message, std::move(suggestion), text_);
  }

  static bool look_like_lyrics(std::string_view text) {
    if (text.starts_with('[')) return true;
    size_t parts = 0;
    const std::vector<std::string_view> lines = lines_of(text);
    for (const std::string_view line : lines) parts += split(line, ',').size();
    return lines.size() > 1 && word_count(text) > 3 * parts;
  }

  bool check_separators(std::string_view text) {
    constexpr std::array<std::string_view, 7> kSeparators = {"，", "、", "；", ";", "|", "\r\n", "\n"};
    std::string with_commas(text);
    if (text.size() > kLongestSuggestion) with_commas.clear();
    std::string_view found;
    for (const std::string_view separator : kSeparators) {
      if (text.find(separator) == std::string_view::npos) continue;
      if (found.empty()) found = separator;
      for (size_t at = 0; (at = with_commas.find(separator, at)) != std::string::npos;) {
        with_commas[at] = ',';
        with_commas.erase(at + 1, separator.size() - 1);
      }
    }
    if (found.empty()) return false;
    const std::string name = found == "\n" || found == "\r\n" ? "a line end" : fmt::format("\"{}\"", found);
    add("tag-separator", fmt::format("{} does not part tags: part them with commas alone", name), joined(with_commas));
    return true;
  }

  /// With commas alone between them, and none empty.
  static std::string joined(std::string_view text) {
    std::string result;
    for (const std::string_view part : split(text, ',')) {
      if (trimmed(part).empty()) continue;
      if (!result.empty()) result += ',';
      result += trimmed(part);
    }
    return result;
  }

  /// All tags, the one at `index` replaced.
  std::string with(const std::vector<std::string_view>& parts, size_t index, std::string_view tag) const {
    std::string result;
    if (text_.size() > kLongestSuggestion) return result;
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::string_view part = i == index ? tag : trimmed(parts[i]);
      if (!part.empty()) result += (result.empty() ? "" : ",") + std::string(part);
    }
    return result;
  }

  void check_list(std::string_view text) {
    if (check_separators(text)) return;
    const std::vector<std::string_view> parts = split(text, ',');
    const bool has_space = std::ranges::any_of(parts, [](std::string_view part) { return trimmed(part) != part; });
    const bool has_empty = std::ranges::any_of(parts, [](std::string_view part) { return trimmed(part).empty(); });
    if (has_space) {
      add("space-around-comma", "a tag after a space is another token than in training: leave no space beside commas",
          joined(text));
    }
    if (has_empty) add("empty-tag", "there is nothing between two commas, or at an end: remove a comma", joined(text));
    if (const std::string lower = lower_case(joined(text)); lower != joined(text)) {
      add("capitals-in-tags", "tags are read in lower case, so capitals change nothing: write them small", lower);
    }
    check_each(parts);
    check_together(parts);
  }

  void check_each(const std::vector<std::string_view>& parts) {
    std::set<std::string> seen;
    for (size_t i = 0; i < parts.size(); ++i) {
      const std::string_view written = trimmed(parts[i]);
      const std::string tag = lower_case(written);
      if (tag.empty()) continue;
      if (!seen.insert(tag).second) {
        if (!warnings_.wants("duplicate-tag")) {
          warnings_.pass("duplicate-tag");
          continue;
        }
        add("duplicate-tag",
            fmt::format("{} is there twice, which no song of the training had: remove one", shown(tag)),
            with(parts, i, ""));
        continue;
      }
      ++count_;
      if (known_.tags_known && !tags_.contains(tag)) {
        check_unknown(parts, i, tag);
      } else if (auto markup = find_markup(written); markup || tag.find_first_of("[]") != std::string::npos) {
        add("markup-in-tags", fmt::format("{}: tags are plain words between commas: remove marks", shown(written)));
      } else if (word_count(tag) > kMostWordsOfATag) {
        add("long-tag",
            fmt::format("\"{}\" is a sentence: tags are words such as piano or female; take it apart into them",
                        shown(written)));
      }
    }
  }

  void check_unknown(const std::vector<std::string_view>& parts, size_t index, const std::string& tag) {
    if (!warnings_.wants("unknown-tag")) return warnings_.pass("unknown-tag");
    const std::string* meant = tag.size() <= kShown && tag.size() > 2 ? nearest_word(tag, known_.tags) : nullptr;
    // "electric guitar" for a model that knows guitars.
    for (const std::string_view word : split(tag.size() <= kShown ? std::string_view(tag) : std::string_view(), ' ')) {
      const auto found = std::ranges::find(known_.tags, word);
      if (meant == nullptr && found != known_.tags.end()) meant = &*found;
    }
    const std::string what =
        fmt::format("{} is no tag that the model was trained on, and will be guessed at", shown(tag));
    if (meant != nullptr) {
      add("unknown-tag", fmt::format("{}: use {}", what, *meant), with(parts, index, *meant));
    } else {
      add("unknown-tag", fmt::format("{}: it knows {}", what, spoken_list(known_.tags)).substr(0, 400));
    }
  }

  void check_together(const std::vector<std::string_view>& parts) {
    std::set<std::string> tags;
    for (const std::string_view part : parts) tags.insert(lower_case(trimmed(part)));
    for (const Vocabulary::Group& group : known_.groups) {
      std::vector<std::string> together;
      std::ranges::copy_if(group.tags, std::back_inserter(together),
                           [&](const auto& tag) { return tags.contains(tag); });
      if (together.size() <= group.most) continue;
      add("tags-exclude-each-other", fmt::format("{} were not together in training, so none may be followed: keep {}",
                                                 spoken_list(together), group.most == 1 ? "one" : "one or two"));
    }
    if (known_.most_tags > 0 && count_ > known_.most_tags) {
      add("too-many-tags", fmt::format("{} tags are more than the {} that the model was trained with, so some are not "
                                       "followed: keep the most important",
                                       count_, known_.most_tags));
    }
  }

  Warnings warnings_{"tags"};
  std::string_view text_;
  const Vocabulary& known_;
  std::set<std::string> tags_;  // of the vocabulary
  Scripts scripts_;
  size_t count_ = 0;
};

}  // namespace

nlohmann::json to_json(const std::vector<LintWarning>& warnings) {
  const auto or_null = [](const auto& value) { return value ? nlohmann::json(*value) : nlohmann::json(); };
  nlohmann::json list = nlohmann::json::array();
  for (const LintWarning& warning : warnings) {
    list.push_back({{"field", warning.field},
                    {"line", or_null(warning.line)},
                    {"code", warning.code},
                    {"message", warning.message},
                    {"suggestion", or_null(warning.suggestion)}});
  }
  return list;
}

std::string section_mark(std::string_view section) {
  std::string mark(section);
  if (!mark.empty() && mark[0] >= 'a' && mark[0] <= 'z') mark[0] = static_cast<char>(mark[0] - 'a' + 'A');
  return fmt::format("[{}]", mark);
}

std::vector<LintWarning> lint(const LintInput& input, const Vocabulary& known) {
  if (input.lyrics) check_utf8("lyrics", *input.lyrics);
  if (input.tags) check_utf8("tags", *input.tags);
  std::vector<LintWarning> warnings;
  if (input.lyrics) {
    Lyrics(*input.lyrics, input, known, input.tags ? lower_case(trimmed(*input.tags)) : "").check(warnings);
  }
  if (input.tags) Tags(*input.tags, known).check(warnings);
  return warnings;
}

}  // namespace heartmula

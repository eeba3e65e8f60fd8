#include "text/section_names.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "text/spelling.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

using Kind = SectionName::Kind;

constexpr size_t kLongestWithDescription = 1000;
constexpr size_t kLongestName = 64;  // bytes; nothing longer is looked at for slips

/// In lower case without spaces and hyphens; in the languages of the released model.
constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {
    {"opening", "intro"},
    {"introduction", "intro"},
    {"introducción", "intro"},
    {"前奏", "intro"},
    {"イントロ", "intro"},
    {"인트로", "intro"},
    {"전주", "intro"},
    {"verso", "verse"},
    {"estrofa", "verse"},
    {"strophe", "verse"},
    {"stanza", "verse"},
    {"couplet", "verse"},
    {"rap", "verse"},
    {"rapverse", "verse"},
    {"主歌", "verse"},
    {"aメロ", "verse"},
    {"벌스", "verse"},
    {"절", "verse"},
    {"prehook", "prechorus"},
    {"precoro", "prechorus"},
    {"preestribillo", "prechorus"},
    {"build", "prechorus"},
    {"buildup", "prechorus"},
    {"bメロ", "prechorus"},
    {"预副歌", "prechorus"},
    {"導歌", "prechorus"},
    {"导歌", "prechorus"},
    {"프리코러스", "prechorus"},
    {"hook", "chorus"},
    {"refrain", "chorus"},
    {"postchorus", "chorus"},
    {"finalchorus", "chorus"},
    {"lastchorus", "chorus"},
    {"coro", "chorus"},
    {"estribillo", "chorus"},
    {"副歌", "chorus"},
    {"サビ", "chorus"},
    {"후렴", "chorus"},
    {"후렴구", "chorus"},
    {"코러스", "chorus"},
    {"drop", "bridge"},
    {"break", "bridge"},
    {"breakdown", "bridge"},
    {"interlude", "bridge"},
    {"middle8", "bridge"},
    {"middleeight", "bridge"},
    {"solo", "bridge"},
    {"guitarsolo", "bridge"},
    {"instrumentalbreak", "bridge"},
    {"puente", "bridge"},
    {"桥段", "bridge"},
    {"橋段", "bridge"},
    {"间奏", "bridge"},
    {"間奏", "bridge"},
    {"cメロ", "bridge"},
    {"브릿지", "bridge"},
    {"간주", "bridge"},
    {"ending", "outro"},
    {"end", "outro"},
    {"coda", "outro"},
    {"fadeout", "outro"},
    {"final", "outro"},
    {"尾奏", "outro"},
    {"结尾", "outro"},
    {"結尾", "outro"},
    {"アウトロ", "outro"},
    {"아웃트로", "outro"},
};

/// Where a model has no such section.
constexpr std::pair<std::string_view, std::string_view> kInstead[] = {
    {"prechorus", "verse"}, {"bridge", "verse"}, {"intro", "verse"}, {"outro", "verse"}, {"chorus", "verse"}};

std::string squeezed(std::string_view name) {
  std::string result;
  for (size_t at = 0; at < name.size();) {
    const size_t begin = at;
    const char32_t c = next_character(name, at);
    if (!is_space(c) && c != '-' && c != '_' && c != '.' && c != 0x2010 && c != 0x2011) {
      result += name.substr(begin, at - begin);
    }
  }
  return result;
}

/// "verse" of "verse2", "verse#2", "verseii", "chorusx2" or "chorus(x2)".
std::string without_number(std::string_view name) {
  while (!name.empty() && std::string_view("0123456789#)").find(name.back()) != std::string_view::npos) {
    name.remove_suffix(1);
  }
  if (name.ends_with("(x")) name.remove_suffix(2);
  for (const char* numeral : {"viii", "vii", "iii", "ii", "iv", "vi", "one", "two", "three", "x"}) {
    if (name.ends_with(numeral) && name.size() > std::string_view(numeral).size()) {
      name.remove_suffix(std::string_view(numeral).size());
      break;
    }
  }
  return std::string(name);
}

/// What stands before a colon, a comma, a bracket or a dash between spaces; else the first word.
std::optional<std::string> before_description(const std::string& name) {
  constexpr std::array<std::string_view, 12> kEnds = {":", ",", ";", "|", "(", "/", " - ", "–", "—", "：", "，", "（"};
  size_t end = std::string::npos;
  for (const std::string_view mark : kEnds) end = std::min(end, name.find(mark));
  if (end == std::string::npos) end = name.find(' ', name.find_first_not_of(' '));
  if (end == std::string::npos) return std::nullopt;
  return name.substr(0, end);
}

}  // namespace

SectionReader::SectionReader(std::vector<std::string> sections) : sections_(std::move(sections)) {
  for (const std::string& section : sections_) squeezed_.push_back(squeezed(section));
}

SectionName SectionReader::read(std::string_view name, bool with_slips) const {
  if (name.size() > kLongestWithDescription) return {};
  const std::string lower = lower_case(name);
  if (std::ranges::find(sections_, lower) != sections_.end()) return {Kind::kKnown, lower};
  const std::string whole = squeezed(lower);
  if (whole.empty()) return {};
  if (const std::string* same = spelt(whole)) return {Kind::kSpelling, *same};
  if (const auto other = other_name(whole)) return {Kind::kOther, *other};
  const std::string plain = without_number(whole);
  if (const std::string* same = spelt(plain)) return {Kind::kNumbered, *same};
  if (const auto other = other_name(plain)) return {Kind::kOther, *other};
  if (const auto described = before_description(lower)) {
    const std::string front = without_number(squeezed(*described));
    if (const std::string* same = spelt(front)) return {Kind::kDescribed, *same};
    if (const auto other = other_name(front)) return {Kind::kOther, *other};
  }
  if (!with_slips || plain.size() > kLongestName) return {};
  const std::string* nearest = nearest_word(plain, squeezed_);
  // Three letters are near too much.
  return nearest && plain.size() > 3 ? SectionName{Kind::kSlip, *spelt(*nearest)} : SectionName{};
}

const std::string* SectionReader::spelt(const std::string& name) const {
  const auto found = std::ranges::find(squeezed_, name);
  return found == squeezed_.end() ? nullptr : &sections_[static_cast<size_t>(found - squeezed_.begin())];
}

/// The model's section for what another name means.
std::optional<std::string> SectionReader::other_name(const std::string& name) const {
  const auto found = std::ranges::find(kOtherNames, name, [](const auto& pair) { return pair.first; });
  std::string meant(found == std::end(kOtherNames) ? std::string_view() : found->second);
  for (const auto& [section, other] : kInstead) {
    if (meant.empty() && name == section) meant = section;
  }
  if (meant.empty()) return std::nullopt;
  if (const std::string* same = spelt(meant)) return *same;
  const auto instead = std::ranges::find(kInstead, meant, [](const auto& pair) { return pair.first; });
  if (instead == std::end(kInstead)) return "";
  const std::string* same = spelt(std::string(instead->second));
  return same ? *same : "";
}

}  // namespace heartmula

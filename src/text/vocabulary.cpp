#include "text/vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "base/json_fields.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

using nlohmann::json;

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMostEntries = 4096;
constexpr size_t kMostSections = 64;
constexpr size_t kLongestEntry = 100;
constexpr double kLongestSeconds = 36'000;
constexpr std::array<std::string_view, 9> kFields = {"tags",    "one_of", "most_tags",        "sections", "languages",
                                                     "scripts", "words",  "seconds_per_line", "seconds"};

std::string checked_text(const json& value, const std::string& where) {
  if (!value.is_string()) throw user_error("{} must be a list of strings, not of {}", where, value.dump());
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty() || text.size() > kLongestEntry) {
    throw user_error("{}: {} must have from 1 to {} bytes", where, value.dump(), kLongestEntry);
  }
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_character(text, at);
    if (c < 0x20 || c == 0x7F || hidden(c) != Hidden::kNo) {
      throw user_error("{}: {} holds a character that nobody sees", where, value.dump());
    }
  }
  return text;
}

std::vector<std::string> checked_texts(const json& value, const std::string& where, size_t most = kMostEntries) {
  if (!value.is_array() || value.size() > most) {
    throw user_error("{} must be a list of at most {} strings, not {}", where, most, value.dump());
  }
  std::vector<std::string> texts;
  std::set<std::string> seen;
  for (const json& entry : value) {
    texts.push_back(checked_text(entry, where));
    if (!seen.insert(texts.back()).second) throw user_error("{} has two entries {}", where, entry.dump());
  }
  return texts;
}

/// As prompts are, in lower case.
std::vector<std::string> lower_texts(const json& value, const std::string& where, size_t most = kMostEntries) {
  std::vector<std::string> texts = checked_texts(value, where, most);
  for (const std::string& text : texts) {
    if (lower_case(text) != text) throw user_error("{}: \"{}\" must be in lower case, as prompts are", where, text);
  }
  return texts;
}

Range checked_range(const json& value, const std::string& where) {
  const bool is_pair = value.is_array() && value.size() == 2 && value[0].is_number() && value[1].is_number();
  if (!is_pair) throw user_error("{} must be two numbers, not {}", where, value.dump());
  const Range range{value[0].get<double>(), value[1].get<double>()};
  if (!(range.least > 0 && range.least <= range.most && range.most <= kLongestSeconds)) {
    throw user_error("{} is {}, but must go from more than 0 to at most {}", where, value.dump(), kLongestSeconds);
  }
  return range;
}

}  // namespace

Vocabulary Vocabulary::released() {
  Vocabulary known;
  // No list has been published. These are words of heartlib's README and of the answers in its issue 17, in the
  // categories that its pull request 91 takes from the paper: genre, timbre, voice, mood, instrument, scene, region.
  const std::vector<std::string> genres = {"pop",     "rock",   "jazz",  "classical", "electronic", "blues",
                                           "country", "metal",  "funk",  "reggae",    "hip-hop",    "rap",
                                           "indie",   "folk",   "soul",  "r&b",       "latin",      "dance",
                                           "disco",   "techno", "house", "trance",    "ambient",    "k-pop"};
  known.tags = genres;
  for (const char* tag :
       {"soft",      "warm",        "husky",    "bright",     "dark",      "distorted",       "male",
        "female",    "choir",       "happy",    "sad",        "romantic",  "energetic",       "calm",
        "peaceful",  "melancholic", "upbeat",   "dreamy",     "intense",   "relaxing",        "cheerful",
        "nostalgic", "dramatic",    "playful",  "piano",      "guitar",    "acoustic guitar", "electric guitar",
        "bass",      "drums",       "violin",   "strings",    "saxophone", "trumpet",         "flute",
        "organ",     "synthesizer", "keyboard", "cello",      "harp",      "ukulele",         "accordion",
        "fast",      "slow",        "medium",   "acoustic",   "cinematic", "orchestral",      "lo-fi",
        "wedding",   "party",       "workout",  "meditation", "study"}) {
    known.tags.emplace_back(tag);
  }
  // With several genres users hear pop (heartlib's issue 9).
  known.groups = {{.tags = genres, .most = 2}};
  known.most_tags = 8;  // one of each category (with topic, eight)
  // Those of the README's "recommended format" and of assets/lyrics.txt, which say [Verse] twice without a number.
  known.sections = {"intro", "verse", "prechorus", "chorus", "bridge", "outro"};
  known.languages = {"English", "Chinese", "Japanese", "Korean", "Spanish"};  // of the model's first README
  for (const char* script : {"Latin", "Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"}) {
    known.scripts.push_back(*find_script(script));
  }
  return known;
}

Vocabulary Vocabulary::parse(std::string_view json, const std::string& name) {
  const nlohmann::json document = parse_json_object(json, name);
  const JsonFields fields(document, name);
  fields.warn_of_unknown(kFields);
  const auto where = [&](const char* field) { return name + ": " + field; };
  Vocabulary known = released();
  if (fields.has("tags")) {
    known.tags = lower_texts(document["tags"], where("tags"));
    known.tags_known = true;
    known.groups.clear();
    known.most_tags = known.tags.size();
    for (const std::string& tag : known.tags) {
      if (tag.find(',') != std::string::npos) throw user_error("{}: \"{}\" holds a comma", where("tags"), tag);
    }
  }
  known.most_tags = static_cast<size_t>(
      fields.integer_or("most_tags", 1, static_cast<int64_t>(kMostEntries), static_cast<int64_t>(known.most_tags)));
  if (fields.has("one_of")) {
    const nlohmann::json& groups = document["one_of"];
    if (!groups.is_array() || groups.size() > kMostEntries) {
      throw user_error("{} must be a list of lists, not {}", where("one_of"), groups.dump());
    }
    known.groups.clear();
    for (const nlohmann::json& group : groups) known.groups.push_back({.tags = lower_texts(group, where("one_of"))});
  }
  if (fields.has("sections")) known.sections = lower_texts(document["sections"], where("sections"), kMostSections);
  if (fields.has("languages")) known.languages = checked_texts(document["languages"], where("languages"));
  if (fields.has("words")) known.words = lower_texts(document["words"], where("words"));
  std::ranges::sort(known.words);
  if (fields.has("scripts")) {
    known.scripts.clear();
    for (const std::string& script : checked_texts(document["scripts"], where("scripts"))) {
      const std::optional<int> found = find_script(script);
      if (!found) throw user_error("{}: Unicode has no script \"{}\"", where("scripts"), script);
      known.scripts.push_back(*found);
    }
  }
  if (fields.has("seconds_per_line")) {
    const nlohmann::json& lines = document["seconds_per_line"];
    if (!lines.is_object() || lines.size() > kMostEntries) {
      throw user_error("{} must be an object, not {}", where("seconds_per_line"), lines.dump());
    }
    for (const auto& [tag, range] : lines.items()) {
      known.seconds_per_line[tag] = checked_range(range, where("seconds_per_line"));
    }
  }
  if (fields.has("seconds")) known.seconds = checked_range(document["seconds"], where("seconds"));
  return known;
}

Vocabulary find_vocabulary(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kVocabularyFile;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return Vocabulary::released();
  return read_downloaded(path, [&path] { return Vocabulary::parse(read_file(path, kMaxBytes), path.string()); });
}

}  // namespace heartmula

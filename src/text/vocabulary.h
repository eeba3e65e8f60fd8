// What a language model was trained on, as far as it is known: tags, sections, scripts, words, lengths.
//
// A checkpoint says it in vocabulary.json, beside gen_config.json:
//
//   {"tags": ["slow", "fast", "piano"],    what it was given as tags, in lower case
//    "one_of": [["slow", "fast"]],         tags that it never had together
//    "most_tags": 6,                       no song had more
//    "sections": ["intro", "verse"],       names of section marks
//    "languages": ["English"],             for people
//    "scripts": ["Latin"],                 of its lyrics, by Unicode's names
//    "words": ["blue", "moon"],            of its lyrics, if it knows no other
//    "seconds_per_line": {"slow": [5.76, 7.68], "fast": [2.4, 3.2]},    of a sung line, by tag
//    "seconds": [8, 36]}                   the shortest and longest song
//
// Every field may be left out. It changes no song: only lint and lists of suggestions read it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

struct Range {
  double least = 0;
  double most = 0;
};

struct Vocabulary {
  struct Group {
    std::vector<std::string> tags;
    size_t most = 1;  ///< of them in a song
  };

  bool tags_known = false;  ///< there are no tags but `tags`; else these are the well known ones
  std::vector<std::string> tags;
  std::vector<Group> groups;
  size_t most_tags = 0;
  std::vector<std::string> sections;
  std::vector<std::string> languages;
  std::vector<int> scripts;                       ///< of find_script()
  std::vector<std::string> words;                 ///< empty: any
  std::map<std::string, Range> seconds_per_line;  ///< empty: not known
  Range seconds;                                  ///< {0, 0}: not known

  /// Of the released checkpoints, by what their authors have published: what a file leaves out is as there.
  static Vocabulary released();
  /// `name` begins the messages of errors: Error(kUser) that names the field.
  static Vocabulary parse(std::string_view json, const std::string& name);
};

constexpr const char* kVocabularyFile = "vocabulary.json";

/// That of the checkpoint whose tokenizer.json and gen_config.json lie in `folder`; released() if it has no file.
Vocabulary find_vocabulary(const std::filesystem::path& folder);

}  // namespace heartmula

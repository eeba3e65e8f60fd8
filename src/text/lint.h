// What will not come out as it is meant, before the song is made: warnings about lyrics and tags, never refusals.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace heartmula {

struct LintInput {
  std::optional<std::string_view> lyrics;  ///< nothing: say nothing of them
  std::optional<std::string_view> tags;
  std::optional<int64_t> max_audio_length_ms;
};

struct LintWarning {
  std::string field;            ///< "lyrics" or "tags"
  std::optional<int64_t> line;  ///< of the lyrics, from 1; nothing: the whole text
  std::string code;             ///< "unknown-section"; docs/prompting.md lists them
  std::string message;          ///< one line: what will happen, and what to do
  /// Where it is sure: what stands instead of that line of the lyrics (perhaps several lines, or ""), or of all tags.
  std::optional<std::string> suggestion;
};

/// In the order of the lyrics' lines, then of them as a whole, then of the tags; of each code at most 20, and how many
/// more there are. Takes time in proportion to the texts. Throws Error(kUser) if a text is not UTF-8, for nothing else.
std::vector<LintWarning> lint(const LintInput& input, const Vocabulary& known);

/// A list of objects with the fields of LintWarning, null where there is none.
nlohmann::json to_json(const std::vector<LintWarning>& warnings);

/// The mark of a section as people write it: "[Verse]" of "verse".
std::string section_mark(std::string_view section);

}  // namespace heartmula

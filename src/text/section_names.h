// What people call the parts of a song, and which of a model's sections they mean.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace heartmula {

struct SectionName {
  enum class Kind {
    kKnown,      ///< as the model knows it
    kSpelling,   ///< another way to write that: "Pre-Chorus", " verse "
    kNumbered,   ///< with a number: "Verse 2"
    kDescribed,  ///< with words behind it: "Verse: soft, female voice"
    kOther,      ///< another name: "Hook"
    kSlip,       ///< nearly a name: "Chrous"
    kUnknown,
  };
  Kind kind = Kind::kUnknown;
  std::string section;  ///< the model's own that is meant; empty: none is
};

class SectionReader {
 public:
  /// `sections` are the model's, in lower case.
  explicit SectionReader(std::vector<std::string> sections);

  /// `name` is what stands between the brackets, valid UTF-8. To look for slips takes longer.
  SectionName read(std::string_view name, bool with_slips = false) const;

 private:
  const std::string* spelt(const std::string& name) const;
  std::optional<std::string> other_name(const std::string& name) const;

  std::vector<std::string> sections_;
  std::vector<std::string> squeezed_;  // of the same places, without spaces and hyphens
};

}  // namespace heartmula

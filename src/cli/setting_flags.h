// The settings of the table as flags of a command.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "song/settings.h"

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace heartmula {

/// What was given on the command line, as words: it stands over the request file, which stands over the defaults.
class SettingFlags {
 public:
  /// Must outlive the parsing of `app`, and not move.
  void add_to(CLI::App& app, Commands command);

  bool given(const std::string& name) const { return word(name).has_value(); }
  /// The last one that was given.
  std::optional<std::string> word(const std::string& name) const;
  /// Sets what was given. Throws Error(kUser) that names the flag.
  void apply(Request& request) const;

 private:
  struct Words {
    std::optional<std::string> one;
    std::vector<std::string> list;
  };
  std::map<std::string, Words> words_;
};

}  // namespace heartmula

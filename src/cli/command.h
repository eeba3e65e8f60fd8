// A command and its flags. CLI11, which reads them, takes longer to compile than everything else that a file of this
// folder includes: only command.cpp, setting_flags.cpp and program.cpp see it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
class Option;
}  // namespace CLI

namespace heartmula {

/// Returns the exit code.
using Run = std::function<int()>;

/// What may be said of a flag, or of a word that stands by itself.
class CommandOption {
 public:
  explicit CommandOption(CLI::Option& option) : option_(&option) {}

  CommandOption& required();
  /// Of numbers, each of a list.
  CommandOption& within(int64_t min, int64_t max);
  /// --help shows the value that its variable has now.
  CommandOption& show_default();

 private:
  CLI::Option* option_;
};

class Command {
 public:
  Command(CLI::App& program, const std::string& name, const std::string& help);

  /// --help of the program does not list it.
  void hide();
  /// What it does.
  void runs(Run& run, Run work);
  CLI::App& app() const { return app_; }

  void flag(const std::string& name, bool& value, const std::string& help);
  /// `name` is "--json", or "FILE" of a word that stands by itself. A list is comma-separated, or given several times.
  /// The variable must outlive the parsing.
  template <typename Value>
  CommandOption option(const std::string& name, Value& value, const std::string& help = "");
  /// All words that stand by themselves, or those of a flag that may be given several times; commas part nothing.
  void words(const std::string& name, std::vector<std::string>& values, const std::string& help);

 private:
  CLI::App& app_;
};

/// Lets `parse` read the word of a flag; what it throws is the message.
void add_parsed(CLI::App& command, const std::string& name, const std::function<void(const std::string&)>& parse,
                const std::string& help);

/// "--save_path" as "--save_path,--save-path": both spellings of every flag work.
std::string both_spellings(const std::string& flags);

/// Writes to the standard output. Throws Error(kFailure) if it is full or closed.
void print_out(const std::string& text);

extern template CommandOption Command::option(const std::string&, std::string&, const std::string&);
extern template CommandOption Command::option(const std::string&, std::optional<std::string>&, const std::string&);
extern template CommandOption Command::option(const std::string&, std::filesystem::path&, const std::string&);
extern template CommandOption Command::option(const std::string&, int&, const std::string&);
extern template CommandOption Command::option(const std::string&, int64_t&, const std::string&);
extern template CommandOption Command::option(const std::string&, bool&, const std::string&);
extern template CommandOption Command::option(const std::string&, std::vector<std::string>&, const std::string&);
extern template CommandOption Command::option(const std::string&, std::vector<int64_t>&, const std::string&);

}  // namespace heartmula

#include "cli/command.h"

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace heartmula {
namespace {

template <typename T>
constexpr bool kIsList = false;
template <typename T>
constexpr bool kIsList<std::vector<T>> = true;

}  // namespace

CommandOption& CommandOption::required() {
  option_->required();
  return *this;
}

CommandOption& CommandOption::within(int64_t min, int64_t max) {
  option_->check(CLI::Range(min, max));
  return *this;
}

CommandOption& CommandOption::show_default() {
  option_->capture_default_str();
  return *this;
}

Command::Command(CLI::App& program, const std::string& name, const std::string& help)
    : app_(*program.add_subcommand(name, help)) {}

void Command::hide() {
  app_.group("");
}

void Command::runs(Run& run, Run work) {
  app_.callback([&run, work = std::move(work)] { run = work; });
}

void Command::flag(const std::string& name, bool& value, const std::string& help) {
  app_.add_flag(name, value, help);
}

template <typename Value>
CommandOption Command::option(const std::string& name, Value& value, const std::string& help) {
  CLI::Option* option = app_.add_option(name, value, help);
  if constexpr (kIsList<Value>) option->delimiter(',')->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return CommandOption(*option);
}

void Command::words(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  // A flag takes one word each time that it is given, and leaves the others alone.
  app_.add_option(name, values, help)->take_all()->allow_extra_args(name[0] != '-');
}

void add_parsed(CLI::App& command, const std::string& name, const std::function<void(const std::string&)>& parse,
                const std::string& help) {
  command.add_option_function<std::string>(name, parse, help);
}

std::string both_spellings(const std::string& flags) {
  std::string dashed = flags;
  for (size_t i = 2; i < dashed.size(); ++i) {
    if (dashed[i] == '_') dashed[i] = '-';
  }
  return dashed == flags ? flags : flags + "," + dashed;
}

void print_out(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) {
    throw failure("standard output: {}", std::generic_category().message(errno));
  }
}

template CommandOption Command::option(const std::string&, std::string&, const std::string&);
template CommandOption Command::option(const std::string&, std::optional<std::string>&, const std::string&);
template CommandOption Command::option(const std::string&, std::filesystem::path&, const std::string&);
template CommandOption Command::option(const std::string&, int&, const std::string&);
template CommandOption Command::option(const std::string&, int64_t&, const std::string&);
template CommandOption Command::option(const std::string&, bool&, const std::string&);
template CommandOption Command::option(const std::string&, std::vector<std::string>&, const std::string&);
template CommandOption Command::option(const std::string&, std::vector<int64_t>&, const std::string&);

}  // namespace heartmula

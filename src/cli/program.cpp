#include "cli/program.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/suggest.h"

namespace heartmula {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUser = 2;
constexpr const char* kDebugHelp = "Say more: tensors that nobody uses, choices made";

/// What ends a run that failed: a line, or an object where progress is objects, too.
class Complaints {
 public:
  explicit Complaints(bool as_json) : as_json_(as_json) {}
  int operator()(const std::string& message, int code) const {
    const std::string text = as_json_ ? error_event(message, code) : "heartmula: " + escaped(message) + "\n";
    std::fputs(text.c_str(), stderr);
    return code;
  }

 private:
  bool as_json_;
};

/// The message of a line of the log, whatever it quotes.
class EscapedPayload : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text = escaped(std::string_view(message.payload.data(), message.payload.size()));
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<EscapedPayload>(); }
};

void prepare_log() {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<EscapedPayload>('v').set_pattern("heartmula: %^%l%$: %v");
  spdlog::set_default_logger(spdlog::stderr_color_mt("heartmula"));
  spdlog::set_formatter(std::move(formatter));
}

std::vector<std::string> flags_of(const CLI::App& command) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

}  // namespace

int run_program(int argc, char** argv) {
  prepare_process();
  prepare_log();
  const bool as_json = asks_for_json_progress({argv, static_cast<size_t>(argc)});
  if (as_json) log_as_json();
  const Complaints complain(as_json);

  CLI::App app("Lyrics and tags to songs with HeartMuLa, on this machine.", "heartmula");
  app.set_version_flag("--version", std::string("heartmula ") + HEARTMULA_VERSION);
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);  // as heartlib's command line
  bool debug = false;
  Run run;
  add_generate(app, run);
  add_decode(app, run);
  add_serve(app, run);
  add_convert(app, run);
  add_devices(app, run);
  add_doctor(app, run);
  add_inspect(app, run);
  add_compare(app, run);
  add_steps(app, run);
  add_drafts(app, run);
  add_dump(app, run);
  add_abx(app, run);
  add_lint(app, run);
  add_schema(app, run);
  add_tokenize(app, run);
  add_verify(app, run);
  add_bench(app, run);
  add_plan(app, run);
  add_first_logits(app, run);
  app.add_flag("--debug", debug, kDebugHelp);
  const std::vector<CLI::App*> commands = app.get_subcommands([](CLI::App*) { return true; });
  for (CLI::App* command : commands) command->add_flag("--debug", debug, kDebugHelp);
  const auto is_named = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && std::none_of(commands.begin(), commands.end(), is_named)) {
    return complain(fmt::format("unknown command \"{}\" (see heartmula --help)", argv[1]), kExitUser);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      app.exit(error);
      std::cout.flush();
      return std::cout ? 0 : complain("standard output: cannot be written", kExitFailure);
    }
    const std::vector<std::string> rest = app.remaining(true);
    if (app.get_subcommands().empty() && !rest.empty()) {
      return complain("there is no command " + rest.front() + " (see heartmula --help)", kExitUser);
    }
    const auto flag = std::find_if(rest.begin(), rest.end(), [](const std::string& word) { return word[0] == '-'; });
    if (flag != rest.end()) {
      const std::string meant = suggestion(*flag, flags_of(*app.get_subcommands().front()));
      return complain(fmt::format("there is no flag {}{} (see heartmula {} --help)", *flag,
                                  meant.empty() ? "" : fmt::format("; did you mean {}?", meant), argv[1]),
                      kExitUser);
    }
    return complain(std::string(error.what()) + " (see heartmula --help, or heartmula COMMAND --help)", kExitUser);
  }
  if (debug) spdlog::set_level(spdlog::level::debug);

  try {
    return run();
  } catch (const Error& error) {
    // A signal may also end a wait for the system, which is a failure to the code that waits.
    if (interrupt_exit_code() != 0) return complain(error.what(), interrupt_exit_code());
    return complain(error.what(), error.kind() == ErrorKind::kUser ? kExitUser : kExitFailure);
  } catch (const std::bad_alloc&) {
    return complain("out of memory; use --lazy_load true, --codec_dtype bf16 or a shorter song", kExitFailure);
  } catch (const std::filesystem::filesystem_error& error) {
    return complain(fmt::format("{}: {}", error.path1().string(), error.code().message()), kExitFailure);
  } catch (const std::exception& error) {
    return complain(fmt::format("this is a fault of the program: {}", error.what()), kExitFailure);
  }
}

}  // namespace heartmula

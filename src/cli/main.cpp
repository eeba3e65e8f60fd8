// heartmula: the program. One file a subcommand.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <new>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "heartmula/error.h"

namespace heartmula {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUser = 2;

int complain(const std::string& message, int code) {
  std::fprintf(stderr, "heartmula: %s\n", message.c_str());
  return code;
}

int run_program(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("heartmula"));
  spdlog::set_pattern("heartmula: %^%l%$: %v");

  CLI::App app("Lyrics and tags to songs with HeartMuLa, on this machine.", "heartmula");
  app.set_version_flag("--version", std::string("heartmula ") + HEARTMULA_VERSION);
  app.require_subcommand(1);
  bool debug = false;
  app.add_flag("--debug", debug, "Say more: tensors that nobody uses, choices made");
  Run run;
  add_generate(app, run);
  add_decode(app, run);
  add_inspect(app, run);
  add_tokenize(app, run);
  add_verify(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return complain(std::string(error.what()) + " (see heartmula --help, or heartmula COMMAND --help)", kExitUser);
  }
  if (debug) spdlog::set_level(spdlog::level::debug);

  watch_signals();
  try {
    return run();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kCancelled) return complain(error.what(), interrupt_exit_code());
    return complain(error.what(), error.kind() == ErrorKind::kUser ? kExitUser : kExitFailure);
  } catch (const std::bad_alloc&) {
    return complain("out of memory; use --lazy_load true, --codec_dtype bf16 or a shorter song", kExitFailure);
  } catch (const std::exception& error) {
    return complain(error.what(), kExitFailure);
  }
}

}  // namespace

std::string both_spellings(const std::string& flags) {
  std::string dashed = flags;
  for (size_t i = 2; i < dashed.size(); ++i) {
    if (dashed[i] == '_') dashed[i] = '-';
  }
  return dashed == flags ? flags : flags + "," + dashed;
}

}  // namespace heartmula

int main(int argc, char** argv) { return heartmula::run_program(argc, argv); }

// heartmula doctor: program, machine and checkpoint for a bug report, and what is wrong with them.
#include "bench/doctor.h"

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/setting_flags.h"

namespace heartmula {

void add_doctor(CLI::App& app, Run& run) {
  struct Options {
    SettingFlags flags;
    bool json = false;
  };
  Command command(app, "doctor", "Examine program, machine and checkpoint, for a bug report");
  auto options = std::make_shared<Options>();
  options->flags.add_to(command.app(), kDoctor);
  command.flag("--json", options->json, "For programs");
  command.runs(run, [options] {
    Request request;
    options->flags.apply(request);
    const nlohmann::json report = bench::examine({.checkpoint = request.checkpoint});
    // A file name may be no UTF-8.
    constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
    print_out(options->json ? report.dump(2, ' ', false, kReplace) + "\n" : bench::describe_examination(report));
    return report["problems"].empty() ? 0 : 1;
  });
}

}  // namespace heartmula

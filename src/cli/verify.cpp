// heartmula verify: a golden case, stage by stage.
#include <nlohmann/json.hpp>

#include "base/input.h"
#include "checkpoint/device_choice.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "verify/golden_case.h"

namespace heartmula {

void add_verify(CLI::App& app, Run& run) {
  struct Options {
    std::string folder;
    VerifyOptions verify;
    bool json = false;
  };
  Command command(app, "verify", "Compare every stage with what the reference recorded");
  auto options = std::make_shared<Options>();
  command.option("folder", options->folder, "The golden case").required();
  add_device(command.app(), options->verify.device);
  command.option("--threads", options->verify.threads, kThreadsHelp).within(0, 1024);
  command.option("--cpus", options->verify.cpus, kCpusHelp);
  command.flag("--json", options->json, "For programs");
  command.runs(run, [options] {
    watch_signals();
    options->verify.device = choose_device("--device", options->verify.device, 0).wish();
    const std::string device = device_of(options->verify);
    const std::vector<Check> checks = verify_case(expand_home(options->folder), options->verify, &interrupt_token());
    print_out(options->json ? to_json(checks, device).dump(2) + "\n" : to_table(checks, device));
    return all_passed(checks) ? 0 : 1;
  });
}

}  // namespace heartmula

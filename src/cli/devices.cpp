// heartmula devices: what can compute here.
#include "bench/devices.h"

#include <nlohmann/json.hpp>

#include "cli/commands.h"

namespace heartmula {

void add_devices(CLI::App& app, Run& run) {
  Command command(app, "devices", "List the processor and the NVIDIA cards, and why one cannot be used");
  auto json = std::make_shared<bool>(false);
  command.flag("--json", *json, "For programs");
  command.runs(run, [json] {
    const nlohmann::json devices = bench::list_devices();
    print_out(*json ? devices.dump(2) + "\n" : bench::describe_devices(devices));
    return 0;
  });
}

}  // namespace heartmula

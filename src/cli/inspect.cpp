// heartmula inspect: what is in a checkpoint, a safetensors file or a codes file.
#include "song/inspect.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/commands.h"

namespace heartmula {

void add_inspect(CLI::App& app, Run& run) {
  struct Options {
    std::string path;
    bool json = false;
  };
  CLI::App* command = app.add_subcommand("inspect", "Show what is in a checkpoint, a safetensors file or a codes file");
  auto options = std::make_shared<Options>();
  command->add_option("path", options->path, "Checkpoint folder, model folder or file")->required();
  command->add_flag("--json", options->json, "For programs");
  command->callback([options, &run] {
    run = [options] {
      const nlohmann::json json = inspect(options->path);
      // A file name may be no UTF-8.
      constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
      print_out(options->json ? json.dump(2, ' ', false, kReplace) + "\n" : describe_inspection(json));
      return 0;
    };
  });
}

}  // namespace heartmula

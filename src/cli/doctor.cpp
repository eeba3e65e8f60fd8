// heartmula doctor: program, machine and checkpoint for a bug report, and what is wrong with them.
#include "bench/doctor.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/commands.h"

namespace heartmula {

void add_doctor(CLI::App& app, Run& run) {
  struct Options {
    CheckpointSettings checkpoint;
    bool json = false;
  };
  CLI::App* command = app.add_subcommand("doctor", "Examine program, machine and checkpoint, for a bug report");
  auto options = std::make_shared<Options>();
  CheckpointSettings& checkpoint = options->checkpoint;
  command->add_option(both_spellings("--model_path"), checkpoint.model_path, "The checkpoint to examine, too");
  command->add_option("--version", checkpoint.version, "Size or release of its language model (3B)");
  command->add_option(both_spellings("--mula_path"), checkpoint.mula_path,
                      "Folder of the language model, if elsewhere");
  command->add_option(both_spellings("--codec_path"), checkpoint.codec_path, "Folder of the codec, likewise");
  command->add_option("--tokenizer", checkpoint.tokenizer, "tokenizer.json, likewise");
  command->add_flag("--json", options->json, "For programs");
  command->callback([options, &run] {
    run = [options] {
      const nlohmann::json report = bench::examine({.checkpoint = expand_home(options->checkpoint)});
      // A file name may be no UTF-8.
      constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
      print_out(options->json ? report.dump(2, ' ', false, kReplace) + "\n" : bench::describe_examination(report));
      return report["problems"].empty() ? 0 : 1;
    };
  });
}

}  // namespace heartmula

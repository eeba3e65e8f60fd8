// heartmula generate: lyrics and tags to a song.
#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/request_options.h"

namespace heartmula {

void add_generate(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("generate", "Make a song from lyrics and tags");
  auto options = std::make_shared<RequestOptions>();
  options->add_checkpoint(*command);
  options->add_song(*command);
  options->add_codec(*command);
  options->add_output(*command);
  command->callback([options, &run] {
    run = [options] { return run_song_command(*options, CheckpointParts::kAll, make_song_file); };
  });
}

}  // namespace heartmula

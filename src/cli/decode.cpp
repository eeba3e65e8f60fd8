// heartmula decode: codes to audio again.
#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/request_options.h"

namespace heartmula {

void add_decode(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("decode", "Make the audio of a codes file again");
  auto options = std::make_shared<RequestOptions>();
  command->add_option("codes", options->load_codes, "The codes file of a song")->required();
  options->add_checkpoint(*command);
  command->add_option("--seed", options->seed, "Seed of the codec's noise (the song's own)");
  command->add_option("--title", options->title, "Title, for the audio file's tags");
  options->add_codec(*command);
  options->add_output(*command);
  command->callback([options, &run] {
    run = [options] { return run_song_command(*options, CheckpointParts::kCodec, decode_song_file); };
  });
}

}  // namespace heartmula

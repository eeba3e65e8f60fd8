// heartmula decode: codes to audio again.

#include "base/input.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/song_command.h"

namespace heartmula {

void add_decode(CLI::App& app, Run& run) {
  struct Options {
    std::string codes;
    SettingFlags flags;
  };
  Command command(app, "decode", "Make the audio of a codes file again");
  auto options = std::make_shared<Options>();
  command.option("codes", options->codes, "The codes file of a song").required();
  options->flags.add_to(command.app(), kDecode);
  command.runs(run, [options] {
    watch_signals();
    return run_song_command(resolve_request(options->flags, CheckpointParts::kCodec, expand_home(options->codes)),
                            CheckpointParts::kCodec, decode_song_file);
  });
}

}  // namespace heartmula

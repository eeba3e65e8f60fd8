// heartmula generate: lyrics and tags to a song.

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/song_command.h"
#include "cli/songs_command.h"

namespace heartmula {

void add_generate(CLI::App& app, Run& run) {
  Command command(app, "generate", "Make a song from lyrics and tags");
  auto flags = std::make_shared<SettingFlags>();
  flags->add_to(command.app(), kGenerate);
  command.runs(run, [flags] {
    watch_signals();
    if (asks_for_songs(*flags)) return run_songs_command(*flags);
    return run_song_command(resolve_request(*flags, CheckpointParts::kAll), CheckpointParts::kAll, make_song_file);
  });
}

}  // namespace heartmula

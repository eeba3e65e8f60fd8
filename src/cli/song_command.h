// What generate and decode share: a song made with progress on standard error, and told of at the end.
#pragma once

#include "cli/request_options.h"
#include "song/song_file.h"

namespace heartmula {

/// make_song_file or decode_song_file.
using MakeSong = nlohmann::json (*)(Request, const SongFileHooks&, const CancelToken*);

/// Runs `make` with progress on stderr and a summary at the end (or, with --json, the song's JSON on stdout). Returns
/// the exit code.
int run_song_command(const ResolvedRequest& resolved, CheckpointParts parts, MakeSong make);

}  // namespace heartmula

// heartmula generate for more than one song.
#pragma once

#include "cli/request_options.h"

namespace heartmula {

/// Makes the songs that the flags ask for, with progress on stderr and a line for each at the end (or, with --json,
/// a list of their JSON on stdout). Returns 0 if all are made; else it throws an Error that says how to go on.
int run_songs_command(const SettingFlags& flags);

}  // namespace heartmula

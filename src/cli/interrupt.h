// The signals that end a command: Ctrl-C, SIGTERM and a closed terminal raise a cancel token.
#pragma once

#include "heartmula/cancel.h"

namespace heartmula {

/// The process' token, raised by SIGINT, SIGTERM or SIGHUP once watch_signals() was called. Who calls it looks at the
/// token; a command that does not is ended by the signal itself. One that comes two seconds later or more ends the
/// process at once: an impatient second Ctrl-C must not cost the codes.
CancelToken& interrupt_token();
void watch_signals();
/// 128 + the signal that came, or 0.
int interrupt_exit_code();

/// Closed pipes and full disks become errors with a message, a file that shrinks while it is mapped becomes a message,
/// and the standard streams are there even if the caller closed them: nothing can be read, and writing to the standard
/// output fails.
void prepare_process();

/// Throws Error(kFailure) if nothing can be written to the standard output, before the work whose result would be lost.
void check_standard_output();

}  // namespace heartmula

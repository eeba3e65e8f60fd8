// Ctrl-C and SIGTERM end the work through a cancel token; a second signal ends the process at once.
#pragma once

#include "heartmula/cancel.h"

namespace heartmula {

/// The process' token, raised by the first SIGINT or SIGTERM once watch_signals() was called. Who calls it looks at the
/// token; a command that does not is ended by the signal itself.
CancelToken& interrupt_token();
void watch_signals();
/// 128 + the signal that came, or 0.
int interrupt_exit_code();

}  // namespace heartmula

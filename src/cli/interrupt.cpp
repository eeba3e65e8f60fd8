#include "cli/interrupt.h"

#include <csignal>

namespace heartmula {
namespace {

// A signal handler has no argument of ours, so these two are the process'.
CancelToken token;
volatile std::sig_atomic_t caught = 0;

void on_signal(int signal) {
  caught = signal;
  token.cancel();
  std::signal(signal, SIG_DFL);
}

}  // namespace

CancelToken& interrupt_token() {
  return token;
}

void watch_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;  // without SA_RESTART: waiting for the reader of a pipe ends, too
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int interrupt_exit_code() {
  return caught == 0 ? 0 : 128 + static_cast<int>(caught);
}

}  // namespace heartmula

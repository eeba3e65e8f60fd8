#include "cli/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <string_view>

#include "base/error.h"

namespace heartmula {
namespace {

constexpr time_t kPatience = 2;  // seconds

// A signal handler has no argument of ours, so these are the process'.
CancelToken token;
volatile std::sig_atomic_t caught = 0;
volatile time_t caught_at = 0;

time_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);  // may be called in a handler
  return time.tv_sec;
}

void on_signal(int signal) {
  if (caught == 0) {
    caught_at = now();
    caught = signal;
    token.cancel();
  } else if (now() - caught_at >= kPatience) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

void on_bus_error(int) {
  constexpr std::string_view kMessage =
      "heartmula: a file of the checkpoint was cut short or its disk failed while it was in use; codes so far are kept "
      "beside the song\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  ::_exit(1);
}

}  // namespace

CancelToken& interrupt_token() {
  return token;
}

void watch_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;  // without SA_RESTART: waiting for the reader of a pipe ends, too
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before = {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);  // nohup means it
  }
}

int interrupt_exit_code() {
  return caught == 0 ? 0 : 128 + static_cast<int>(caught);
}

void check_standard_output() {
  const int flags = ::fcntl(STDOUT_FILENO, F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) throw failure("standard output: is closed");
}

void prepare_process() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) >= 0) continue;
    // Or the next file that is opened would be taken for it. Who writes to a closed standard output must hear of it.
    ::open("/dev/null", descriptor == STDOUT_FILENO ? O_RDONLY : O_RDWR);
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGBUS, on_bus_error);
}

}  // namespace heartmula

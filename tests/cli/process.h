// Runs the program as a user would: arguments, folder, signals; exit code and both outputs.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace heartmula {

struct Finished {
  int exit_code = -1;  ///< -1 if a signal ended it
  int signal = 0;
  std::chrono::nanoseconds cpu_time = {};  ///< of all threads together
  std::string out;
  std::string err;
};

/// One child process. Its outputs go into memory, so that it never waits for the test.
class Process {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Process(std::vector<std::string> command, const std::string& folder = {})
      : out_(output_file()), err_(output_file()) {
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out_, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err_, STDERR_FILENO);
    if (!folder.empty()) posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
    const int error = posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::runtime_error("cannot run " + command[0]);
  }
  ~Process() {
    if (!status_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(out_);
    ::close(err_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t id() const { return pid_; }
  void send(int signal) const { ::kill(pid_, signal); }
  std::string err() const { return contents(err_); }
  /// Processor time of all threads so far; nothing once it has ended.
  std::optional<std::chrono::nanoseconds> cpu_time() const {
    clockid_t clock = 0;
    timespec time = {};
    if (::clock_getcpuclockid(pid_, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return std::nullopt;
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }
  bool running() {
    if (status_) return false;
    int status = 0;
    const pid_t ended = ::wait4(pid_, &status, WNOHANG, &usage_);
    if (ended == pid_) status_ = status;
    return ended == 0;
  }
  /// Until `ready()` holds; false if the process ended before.
  bool wait_until(const std::function<bool()>& ready) {
    const Clock::time_point end = Clock::now() + kPatience;
    while (!ready()) {
      if (!running()) return ready();
      if (Clock::now() > end) throw std::runtime_error("the program does not get there");
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
  }
  Finished wait() {
    const Clock::time_point end = Clock::now() + kPatience;
    while (running()) {
      if (Clock::now() > end) throw std::runtime_error("the program does not end; so far: " + err());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    Finished finished{.out = contents(out_), .err = contents(err_)};
    for (const timeval& part : {usage_.ru_utime, usage_.ru_stime}) {
      finished.cpu_time += std::chrono::seconds(part.tv_sec) + std::chrono::microseconds(part.tv_usec);
    }
    if (WIFEXITED(*status_)) finished.exit_code = WEXITSTATUS(*status_);
    if (WIFSIGNALED(*status_)) finished.signal = WTERMSIG(*status_);
    return finished;
  }

 private:
  static constexpr std::chrono::seconds kPatience{300};

  static int output_file() { return ::memfd_create("output", MFD_CLOEXEC); }
  static std::string contents(int descriptor) {
    std::string text;
    char buffer[1 << 16];
    for (ssize_t count; (count = ::pread(descriptor, buffer, sizeof buffer, static_cast<off_t>(text.size()))) > 0;) {
      text.append(buffer, static_cast<size_t>(count));
    }
    return text;
  }

  pid_t pid_ = -1;
  int out_;
  int err_;
  std::optional<int> status_;
  rusage usage_ = {};
};

inline std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

inline bool emulated() {
  return !environment("HEARTMULA_EMULATOR").empty();
}

/// The program's own command line, through an emulator where there is one.
inline std::vector<std::string> program(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = words_of(environment("HEARTMULA_EMULATOR"));
  const std::string path = environment("HEARTMULA_PROGRAM");
  if (path.empty()) throw std::runtime_error("HEARTMULA_PROGRAM is not set: run this through ctest");
  command.push_back(path);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

inline Finished run_program(const std::vector<std::string>& arguments, const std::string& folder = {}) {
  return Process(program(arguments), folder).wait();
}

/// A shell script in which `heartmula` is the program.
inline Finished run_script(const std::string& script, const std::string& folder = {}) {
  std::vector<std::string> command = {"bash", "-c",
                                      "heartmula() { \"${program[@]}\" \"$@\"; }; program=(\"$@\"); " + script, "bash"};
  for (const std::string& word : program({})) command.push_back(word);
  return Process(command, folder).wait();
}

}  // namespace heartmula

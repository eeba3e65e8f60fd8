#include "checkpoint/profile.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/cpu_info.h"
#include "base/error.h"
#include "cpu/machine_probe.h"

namespace heartmula {
namespace {

constexpr int kParts = 10;  // tracks of operations are 1 and 2, those of frames and steps above them 10 and 11
constexpr int kSamples = 3;
constexpr int64_t kBufferBytes = int64_t{256} << 20;  // may have to fit beside the models
constexpr double kSurelyReading = 50;  // operations a byte: with no more of them every card waits for its memory

double microseconds(Profile::Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

}  // namespace

DeviceLimits DeviceLimits::measure(int threads, const std::string& cpus) {
  MachineProbe probe({.threads = threads, .cpus = cpus, .measure_streams = true, .isa = {}}, kBufferBytes);
  DeviceLimits limits;
  for (int i = 0; i < kSamples; ++i) {
    limits.read_bytes_s = std::max(limits.read_bytes_s, probe.read_bytes_per_second());
    limits.f32_flop_s = std::max(limits.f32_flop_s, probe.f32_flop_per_second());
    limits.bf16_flop_s = std::max(limits.bf16_flop_s, probe.bf16_flop_per_second());
  }
  reset_peak_memory();  // the probe's buffer is no part of a song
  return limits;
}

DeviceLimits DeviceLimits::measure_card(int index) {
  return {.read_bytes_s = measure_cuda_read(index)};
}

DeviceLimits DeviceLimits::measure(const Device& device, const MachineSettings& machine) {
  return device.is_cuda ? measure_card(device.index) : measure(machine.threads, machine.cpus);
}

double DeviceLimits::seconds(double stored_bytes, double flop, DType arithmetic) const {
  const double peak = arithmetic == DType::kBF16 ? bf16_flop_s : f32_flop_s;
  if (peak > 0) return std::max(stored_bytes / read_bytes_s, flop / peak);
  return flop <= kSurelyReading * stored_bytes ? stored_bytes / read_bytes_s : 0;
}

Profile::Profile(const std::filesystem::path& path) : file_(std::fopen(path.c_str(), "we")) {
  if (file_ == nullptr) {
    throw user_error("--profile {}: cannot be written: {}", path.string(), std::generic_category().message(errno));
  }
  for (size_t i = 0; i < listeners_.size(); ++i) {
    listeners_[i].profile = this;
    listeners_[i].track = static_cast<Track>(i);
  }
  write("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
  constexpr std::array<const char*, 2> kNames = {"language model", "codec"};
  for (int track = 0; track < 2; ++track) {
    for (const int thread : {track + 1, track + kParts}) {
      fmt::print(
          file_,
          "{{\"ph\": \"M\", \"pid\": 1, \"tid\": {}, \"name\": \"thread_name\", \"args\": {{\"name\": \"{}{}\"}}}},\n",
          thread, kNames[static_cast<size_t>(track)], thread < kParts ? ": operations" : "");
    }
  }
}

Profile::~Profile() {
  const double end = microseconds(Clock::now() - start_);
  write(fmt::format("{{\"ph\": \"i\", \"pid\": 1, \"tid\": 1, \"ts\": {:.3f}, \"name\": \"end\"}}\n]}}\n", end));
  const bool failed = std::ferror(file_) != 0;
  if (std::fclose(file_) != 0 || failed) spdlog::warn("--profile: the disk is full, and the trace is cut short");
}

void Profile::set_device(Track track, const std::string& device, const DeviceLimits& limits, bool works_ahead) {
  limits_[static_cast<size_t>(track)] = limits;
  works_ahead_[static_cast<size_t>(track)] = works_ahead;
  const std::lock_guard lock(mutex_);
  write(
      fmt::format("{{\"ph\": \"M\", \"pid\": 1, \"tid\": {}, \"name\": \"device\", \"args\": {{\"name\": {}, "
                  "\"read_gb_s\": {:.2f}, \"f32_gflop_s\": {:.1f}, \"bf16_gflop_s\": {:.1f}}}}},\n",
                  static_cast<int>(track) + 1, nlohmann::json(device).dump(), limits.read_bytes_s * 1e-9,
                  limits.f32_flop_s * 1e-9, limits.bf16_flop_s * 1e-9));
}

void Profile::write(const std::string& text) {
  std::fputs(text.c_str(), file_);
}

void Profile::span(std::string_view name, int thread, Clock::time_point begin, Clock::time_point end,
                   const std::string& args) {
  const std::lock_guard lock(mutex_);
  write(
      fmt::format("{{\"ph\": \"X\", \"pid\": 1, \"tid\": {}, \"ts\": {:.3f}, \"dur\": {:.3f}, \"name\": \"{}\"{}}},\n",
                  thread, microseconds(begin - start_), microseconds(end - begin), name, args));
}

void Profile::operation(Track track, const OpRecord& r, Clock::time_point begin, Clock::time_point end) {
  std::string reached;
  if (!works_ahead_[static_cast<size_t>(track)]) {
    const double seconds = std::max(1e-9, std::chrono::duration<double>(end - begin).count());
    const double limit = limits_[static_cast<size_t>(track)].seconds(r.stored_bytes, r.flop, r.arithmetic);
    reached = fmt::format(", \"fraction_of_limit\": {:.4g}", limit / seconds);
  }
  span(r.name, static_cast<int>(track) + 1, begin, end,
       fmt::format(", \"args\": {{\"rows\": {}, \"n\": {}, \"k\": {}, \"dtype\": \"{}\", \"stored_mb\": {:.6g}, "
                   "\"activation_mb\": {:.6g}, \"mflop\": {:.6g}{}}}",
                   r.rows, r.n, r.k, dtype_name(r.arithmetic), r.stored_bytes * 1e-6, r.activation_bytes * 1e-6,
                   r.flop * 1e-6, reached));
}

void Profile::part_done(Track track, const std::string& name) {
  const Clock::time_point now = Clock::now();
  Clock::time_point& begin = part_begin_[static_cast<size_t>(track)];
  span(name, static_cast<int>(track) + kParts, begin, now, "");
  begin = now;
}

}  // namespace heartmula

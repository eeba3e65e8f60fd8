#include "cpu/machine_probe.h"

#include <atomic>
#include <chrono>
#include <cstring>

#include "base/clock.h"
#include "cpu/device.h"
#include "cpu/stream_threads.h"

namespace heartmula {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPartBytes = int64_t{2} << 20;  // of the buffer, claimed at a time
constexpr int64_t kSteps = 20000;                 // of multiply-adds, claimed at a time: some 50 us
constexpr double kSampleSeconds = 0.05;           // of multiply-adds

}  // namespace

struct MachineProbe::State {
  cpu::Device device;
  int64_t buffer_bytes;
  std::atomic<uint32_t> sink{0};  // what was read must be used

  State(const CpuOptions& options, int64_t bytes) : device(options), buffer_bytes(bytes) {
    cpu::find_stream_threads(device, options);
  }

  double flop_per_second(double (*multiply_adds)(int64_t steps)) {
    device.pool.use_threads(device.choice.threads);
    const int64_t parts = int64_t{8} * device.pool.threads();
    std::atomic<int64_t> flop{0};
    const Clock::time_point begin = Clock::now();
    while (seconds_since(begin) < kSampleSeconds) {
      device.pool.parallel_for(parts, [&](int64_t, int) { flop += static_cast<int64_t>(multiply_adds(kSteps)); });
    }
    return static_cast<double>(flop) / seconds_since(begin);
  }
};

MachineProbe::MachineProbe(const CpuOptions& options, int64_t buffer_bytes)
    : state_(new State(options, (buffer_bytes + kPartBytes - 1) / kPartBytes * kPartBytes)) {}

MachineProbe::~MachineProbe() = default;
MachineProbe::MachineProbe(MachineProbe&&) noexcept = default;

double MachineProbe::read_bytes_per_second() {
  State& state = *state_;
  state.device.pool.use_threads(state.device.stream_threads);
  const int64_t parts = state.buffer_bytes / kPartBytes;
  const std::shared_ptr<void> buffer = cpu::allocate_aligned(static_cast<size_t>(state.buffer_bytes));
  const auto part = [&buffer](int64_t index) { return static_cast<std::byte*>(buffer.get()) + index * kPartBytes; };
  state.device.pool.parallel_for(parts, [&](int64_t index, int) { std::memset(part(index), 1, kPartBytes); });
  const Clock::time_point begin = Clock::now();
  state.device.pool.parallel_for(
      parts, [&](int64_t index, int) { state.sink += state.device.kernels.read(part(index), kPartBytes); });
  return static_cast<double>(state.buffer_bytes) / seconds_since(begin);
}

double MachineProbe::f32_flop_per_second() {
  return state_->flop_per_second(state_->device.kernels.multiply_add_f32);
}

double MachineProbe::bf16_flop_per_second() {
  return state_->flop_per_second(state_->device.kernels.multiply_add_bf16);
}

std::string MachineProbe::isa() const {
  return state_->device.isa.name;
}

int MachineProbe::threads() const {
  return state_->device.pool.threads();
}

}  // namespace heartmula

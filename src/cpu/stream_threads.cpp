#include "cpu/stream_threads.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstring>
#include <ctime>

#include "base/clock.h"
#include "cpu/products.h"

namespace heartmula::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kAsFast = 0.97;   // of the fastest: samples differ by that much
constexpr double kOwnTime = 0.85;  // less, and another program is at work
constexpr int kMostFalls = 2;      // one may be chance

constexpr int64_t kInputs = 4096;
constexpr int64_t kRows = 2;
constexpr int64_t kLeastBytes = int64_t{128} << 20;
constexpr int64_t kMostBytes = int64_t{256} << 20;  // lies beside the models when they are loaded
constexpr int64_t kCaches = 4;                      // as many bytes as that many last caches
constexpr double kSampleSeconds = 0.04;             // for each number of threads
constexpr int kLeastPasses = 3;

/// Of all threads of the process together.
double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

int find_stream_threads(int threads, const std::function<StreamSample(int)>& measure) {
  struct Candidate {
    int threads;
    double bytes_per_second;
  };
  std::vector<Candidate> candidates;
  double best = 0;
  int falls = 0;
  for (int count = 1; falls < kMostFalls; count = std::min(2 * count, threads)) {
    const StreamSample sample = measure(count);
    spdlog::debug("{} threads stream {:.1f} GB/s, with {:.0f} % of their cores", count, 1e-9 * sample.bytes_per_second,
                  100 * sample.own_time);
    if (sample.own_time < kOwnTime) return threads;
    candidates.push_back({count, sample.bytes_per_second});
    falls = sample.bytes_per_second < kAsFast * best ? falls + 1 : 0;
    best = std::max(best, sample.bytes_per_second);
    if (count == threads) break;
  }
  for (const Candidate& candidate : candidates) {
    if (candidate.bytes_per_second >= kAsFast * best) return candidate.threads;
  }
  return threads;
}

int64_t uncached_bytes(const CpuTopology& topology) {
  return std::clamp(kCaches * topology.cache_bytes, kLeastBytes, kMostBytes);
}

int measure_stream_threads(Device& device, int64_t weight_bytes) {
  if (device.choice.threads == 1) return 1;
  const int64_t panel_bytes = kInputs * device.kernels.panel_width * int64_t{sizeof(uint16_t)};
  const int64_t panels = std::max<int64_t>(1, weight_bytes / panel_bytes);
  const auto packed = std::make_shared<PackedMatrix>();
  const std::shared_ptr<void> words = allocate_aligned(static_cast<size_t>(panels * panel_bytes));
  packed->words = words;
  packed->panels = panels;
  device.pool.parallel_for(panels, [&](int64_t panel, int) {
    std::memset(static_cast<std::byte*>(words.get()) + panel * panel_bytes, 0, static_cast<size_t>(panel_bytes));
  });
  const int64_t outputs = panels * device.kernels.panel_width;
  const Matrix weight(packed, DType::kBF16, outputs, kInputs, panels * panel_bytes);
  std::vector<uint16_t> x(static_cast<size_t>(kRows * kInputs));
  std::vector<float> out(static_cast<size_t>(kRows * outputs));
  const View out_view{out.data(), DType::kF32, kRows, outputs, outputs};
  const ConstView x_view(x.data(), DType::kBF16, kRows, kInputs, kInputs);

  const int found = find_stream_threads(device.choice.threads, [&](int threads) {
    device.stream_threads = threads;
    const auto pass = [&] { run_product(device, {.channels = kInputs}, out_view, x_view, weight); };
    pass();
    const Clock::time_point begin = Clock::now();
    const double processor_begin = processor_seconds();
    double fastest = std::numeric_limits<double>::infinity();
    for (int passes = 0; passes < kLeastPasses || seconds_since(begin) < kSampleSeconds; ++passes) {
      const Clock::time_point pass_begin = Clock::now();
      pass();
      fastest = std::min(fastest, seconds_since(pass_begin));
    }
    return StreamSample{static_cast<double>(weight.bytes()) / fastest,
                        (processor_seconds() - processor_begin) / (threads * seconds_since(begin))};
  });
  spdlog::debug("decoding takes {} of {} threads", found, device.choice.threads);
  return found;
}

void find_stream_threads(Device& device, const CpuOptions& options) {
  if (!options.measure_streams || !device.choice.automatic) return;
  device.stream_threads = measure_stream_threads(device, uncached_bytes(cpu_topology()));
}

}  // namespace heartmula::cpu

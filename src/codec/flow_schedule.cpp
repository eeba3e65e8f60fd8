#include "codec/flow_schedule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <numbers>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace heartmula {
namespace {

constexpr double kSigmaSlope = 1.0 - 1e-6;      // the noise's part is 1 - (1 - 1e-6) t
constexpr double kLambdaOfNoise = -6.90775528;  // ln(1e-3) stands for the log signal-to-noise ratio at t = 0
constexpr int64_t kMostTimes = 1001;

// 32 t, of F5-TTS.
const std::vector<std::vector<int64_t>>& epss_times() {
  static const std::vector<std::vector<int64_t>> kTimes = {
      {0, 2, 4, 8, 16, 32},
      {0, 2, 4, 6, 8, 16, 32},
      {0, 2, 4, 6, 8, 16, 24, 32},
      {0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32},
      {0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32},
      {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32},
  };
  return kTimes;
}

std::vector<float> uniform_times(int64_t steps) {
  const auto step = static_cast<float>(1.0 / static_cast<double>(steps));
  std::vector<float> times;
  for (int64_t i = 0; i <= steps; ++i) {
    times.push_back(i < (steps + 1) / 2 ? step * static_cast<float>(i) : 1.0f - step * static_cast<float>(steps - i));
  }
  return times;
}

std::vector<float> epss(int64_t steps) {
  for (const std::vector<int64_t>& known : epss_times()) {
    if (static_cast<int64_t>(known.size()) != steps + 1) continue;
    std::vector<float> times;
    for (const int64_t time : known) times.push_back(static_cast<float>(time) / 32.0f);
    return times;
  }
  throw user_error("--codec_grid epss has times for 5, 6, 7, 10, 12 or 16 steps, not for --codec_steps {}", steps);
}

bool is_among(const std::vector<int64_t>& steps, int64_t step) {
  return steps.empty() || std::ranges::binary_search(steps, step);
}

void check_steps(const char* flag, const std::vector<int64_t>& among, int64_t steps) {
  if (!among.empty() && among.back() >= steps) {
    throw user_error(
        "{} names step {}, but there are only steps 0 to {}; a --quality sets it, too: say {} all, or others", flag,
        among.back(), steps - 1, flag);
  }
}

// One step of DPM-Solver++(2M): x' = (sigma'/sigma) x - t' (e^-h - 1) ((1 + 1 / 2r) D - D_before / 2r), where
// D = (1 - 1e-6) x + sigma v is the music that the velocity points at, h = lambda' - lambda, r = h_before / h.
void set_dpmpp2m(FlowEvaluation& e, double before, double t, double after) {
  const auto sigma = [](double time) { return 1.0 - kSigmaSlope * time; };
  const auto lambda = [&](double time) { return time == 0 ? kLambdaOfNoise : std::log(time / sigma(time)); };
  const double h = lambda(after) - lambda(t);
  const double half = h / (2 * (lambda(t) - lambda(before)));  // 1 / 2r
  const double factor = -after * std::expm1(-h);
  e.x_weight = static_cast<float>(sigma(after) / sigma(t) + factor * (1 + half) * kSigmaSlope);
  e.v_weight = static_cast<float>(factor * (1 + half) * sigma(t));
  e.x_before_weight = static_cast<float>(-factor * half * kSigmaSlope);
  e.v_before_weight = static_cast<float>(-factor * half * sigma(before));
}

// Numbers with commas between them; nothing if one is none.
template <typename Number>
std::vector<Number> parse_list(std::string_view text) {
  std::vector<Number> numbers;
  for (const char* at = text.data(); at != text.data() + text.size();) {
    const char* end = text.data() + text.size();
    Number number = 0;
    const auto [after, error] = std::from_chars(at, end, number);
    const bool is_last = after == end;
    if (error != std::errc() || (!is_last && (*after != ',' || after + 1 == end))) return {};
    numbers.push_back(number);
    at = is_last ? end : after + 1;
  }
  return numbers;
}

}  // namespace

std::vector<float> flow_times(const FlowGrid& grid, int64_t steps) {
  switch (grid.kind) {
    case FlowGrid::Kind::kUniform:
      return uniform_times(steps);
    case FlowGrid::Kind::kEpss:
      return epss(steps);
    case FlowGrid::Kind::kSway: {
      std::vector<float> times;
      for (int64_t i = 0; i <= steps; ++i) {
        const double u = static_cast<double>(i) / static_cast<double>(steps);
        times.push_back(static_cast<float>(u + grid.sway * (std::cos(std::numbers::pi / 2 * u) - 1 + u)));
      }
      times.back() = 1.0f;
      return times;
    }
    case FlowGrid::Kind::kTimes:
      if (static_cast<int64_t>(grid.times.size()) != steps + 1) {
        throw user_error("--codec_grid has {} times, which are {} steps, but --codec_steps is {}", grid.times.size(),
                         grid.times.size() - 1, steps);
      }
      return {grid.times.begin(), grid.times.end()};
  }
  return {};
}

std::vector<FlowEvaluation> flow_schedule(const FlowSettings& settings) {
  const std::vector<float> times = flow_times(settings.grid, settings.steps);
  check_steps("--codec_guidance_steps", settings.guidance_steps, settings.steps);
  check_steps("--codec_first_stack_steps", settings.first_stack_steps, settings.steps);
  if (!is_among(settings.first_stack_steps, 0)) {
    throw user_error("--codec_first_stack_steps {}: step 0 must be among them",
                     flow_steps_name(settings.first_stack_steps));
  }
  std::vector<FlowEvaluation> schedule;
  float before = 0;
  float dt_before = 0;
  float t = times[0];
  for (int64_t step = 0; step < settings.steps; ++step) {
    // As the reference steps: what rounding takes from one step the next one gets.
    const float dt = times[static_cast<size_t>(step + 1)] - t;
    const bool is_last = step + 1 == settings.steps;
    FlowEvaluation e{.t = t,
                     .interval = settings.flow_map ? dt : 0,
                     .takes_difference = settings.guided() && is_among(settings.guidance_steps, step),
                     .runs_first_stack = is_among(settings.first_stack_steps, step),
                     .v_weight = dt};
    FlowEvaluation second = e;  // of the two of a Runge-Kutta step
    second.x_weight = 0;
    second.x_before_weight = 1;
    switch (settings.solver) {
      case FlowSolver::kEuler:
        schedule.push_back(e);
        break;
      case FlowSolver::kAb2:
        if (step > 0) {
          const float half = dt / (2 * dt_before);
          e.v_weight = dt * (1 + half);
          e.v_before_weight = -dt * half;
        }
        schedule.push_back(e);
        break;
      case FlowSolver::kMidpoint:
        e.v_weight = dt / 2;
        second.t = t + dt / 2;
        schedule.insert(schedule.end(), {e, second});
        break;
      case FlowSolver::kHeun:
        schedule.push_back(e);
        if (is_last) break;
        second.t = t + dt;
        second.v_weight = second.v_before_weight = dt / 2;
        schedule.push_back(second);
        break;
      case FlowSolver::kDpmpp2m:
        if (step > 0 && !is_last) set_dpmpp2m(e, before, t, static_cast<double>(t) + dt);
        schedule.push_back(e);
        break;
    }
    before = t;
    dt_before = dt;
    t += dt;
  }
  return schedule;
}

double flow_cost(const FlowSettings& settings) {
  double cost = 0;
  for (const FlowEvaluation& e : flow_schedule(settings)) {
    cost += (e.takes_difference ? 2.0 : 1.0) * (e.runs_first_stack ? 1.0 : 0.5);
  }
  return cost;
}

FlowGrid parse_flow_grid(const std::string& flag, const std::string& word) {
  if (word == "uniform") return {};
  if (word == "epss") return {.kind = FlowGrid::Kind::kEpss};
  if (word == "sway") return {.kind = FlowGrid::Kind::kSway};
  if (word.starts_with("sway:")) {
    const std::vector<double> sway = parse_list<double>(std::string_view(word).substr(5));
    // Beyond these times do not ascend.
    if (sway.size() == 1 && sway[0] >= -1 && sway[0] <= 2 / (std::numbers::pi - 2)) {
      return {.kind = FlowGrid::Kind::kSway, .sway = sway[0]};
    }
    throw user_error("{} {}: sway is from -1 to 1.75", flag, word);
  }
  FlowGrid grid{.kind = FlowGrid::Kind::kTimes, .times = parse_list<double>(word)};
  const std::vector<double>& times = grid.times;
  const auto descends = [](double a, double b) { return !(static_cast<float>(a) < static_cast<float>(b)); };
  if (times.size() < 2 || static_cast<int64_t>(times.size()) > kMostTimes || times.front() != 0 || times.back() != 1 ||
      std::ranges::adjacent_find(times, descends) != times.end()) {
    throw user_error("{} {}: must be uniform, sway, sway:S, epss, or ascending times from 0 to 1 (0,0.3,1)", flag,
                     word);
  }
  return grid;
}

std::string flow_grid_name(const FlowGrid& grid) {
  switch (grid.kind) {
    case FlowGrid::Kind::kUniform:
      return "uniform";
    case FlowGrid::Kind::kSway:
      return grid.sway == FlowGrid().sway ? "sway" : fmt::format("sway:{}", grid.sway);
    case FlowGrid::Kind::kEpss:
      return "epss";
    case FlowGrid::Kind::kTimes:
      return fmt::format("{}", fmt::join(grid.times, ","));
  }
  return {};
}

std::vector<int64_t> parse_flow_steps(const std::string& flag, const std::string& word) {
  if (word == "all") return {};
  std::vector<int64_t> steps = parse_list<int64_t>(word);
  if (steps.empty() || steps.front() < 0 || std::ranges::adjacent_find(steps, std::greater_equal()) != steps.end()) {
    throw user_error("{} {}: must be all, or ascending steps, counted from 0 (0,2,4)", flag, word);
  }
  return steps;
}

std::string flow_steps_name(const std::vector<int64_t>& steps) {
  return steps.empty() ? "all" : fmt::format("{}", fmt::join(steps, ","));
}

}  // namespace heartmula

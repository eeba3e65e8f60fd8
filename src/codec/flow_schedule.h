// When the flow's velocity is evaluated, and what is made of it: a list that one loop runs (flow_sampler.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/names.h"

namespace heartmula {

/// How dx/dt = v(x, t) is solved from t = 0 to 1.
enum class FlowSolver : uint8_t {
  kEuler,     // first order, as the reference
  kAb2,       // Adams-Bashforth of two steps: second order with one evaluation a step
  kMidpoint,  // Runge-Kutta, second order, two evaluations a step
  kHeun,      // likewise; its last step is Euler's, for t = 1 was never trained
  kDpmpp2m,   // DPM-Solver++(2M) (Lu et al. 2022) in this path's variables; first and last step are Euler's
};

inline constexpr Names<FlowSolver, 5> kFlowSolvers = {{{{FlowSolver::kEuler, "euler"},
                                                        {FlowSolver::kAb2, "ab2"},
                                                        {FlowSolver::kMidpoint, "midpoint"},
                                                        {FlowSolver::kHeun, "heun"},
                                                        {FlowSolver::kDpmpp2m, "dpmpp2m"}}}};

/// The times between which steps are taken.
struct FlowGrid {
  enum class Kind : uint8_t {
    kUniform,
    kSway,   // t = u + s (cos(pi u / 2) - 1 + u) (Chen et al. 2024, F5-TTS)
    kEpss,   // F5-TTS's times for 5, 6, 7, 10, 12 or 16 steps
    kTimes,  // given
  };

  Kind kind = Kind::kUniform;
  double sway = -1.0;
  std::vector<double> times = {};  // 0 < ... < 1, both included

  bool operator==(const FlowGrid&) const = default;
};

struct FlowSettings {
  FlowSolver solver = FlowSolver::kEuler;
  int64_t steps = 10;
  FlowGrid grid = FlowGrid();
  double guidance = 1.25;  // applied above 1
  // Steps that take the difference that guidance adds; the others use the latest one, none before the first. All if
  // empty.
  std::vector<int64_t> guidance_steps = {};
  // Steps that run the first stack; the others use what it gave last. All if empty.
  std::vector<int64_t> first_stack_steps = {};
  bool flow_map = false;  // a student's: velocities of whole intervals (codec_speed.md C3), without guidance

  bool guided() const { return guidance > 1.0 && !flow_map; }
  bool operator==(const FlowSettings&) const = default;
};

/// One evaluation of the velocity v = v(x, t), and the state after it:
/// x' = x_weight x + v_weight v + x_before_weight x_before + v_before_weight v_before, with state and velocity of the
/// evaluation before.
struct FlowEvaluation {
  float t = 0;
  float interval = 0;  // of a flow map: v is the mean velocity from t to t + interval
  bool takes_difference = false;
  bool runs_first_stack = true;
  float x_weight = 1;
  float v_weight = 0;
  float x_before_weight = 0;
  float v_before_weight = 0;
};

/// The f32 times 0 = t_0 < ... < t_N = 1: uniform ones made from both ends as torch.linspace does. Throws Error(kUser)
/// if the grid has none for so many steps.
std::vector<float> flow_times(const FlowGrid& grid, int64_t steps);

/// Throws Error(kUser) if settings do not go together.
std::vector<FlowEvaluation> flow_schedule(const FlowSettings& settings);

/// Evaluations of the whole transformer a window; a guided one is two (codec_pilot.md's E).
double flow_cost(const FlowSettings& settings);

/// "uniform", "sway" or "sway:S", "epss", or "0,0.25,...,1". Throws Error(kUser) that begins with `flag` for anything
/// else.
FlowGrid parse_flow_grid(const std::string& flag, const std::string& word);
std::string flow_grid_name(const FlowGrid& grid);

/// "all" (empty), or steps in ascending order: "0,2,4". Throws Error(kUser) that begins with
/// `flag` for anything else.
std::vector<int64_t> parse_flow_steps(const std::string& flag, const std::string& word);
std::string flow_steps_name(const std::vector<int64_t>& steps);

}  // namespace heartmula

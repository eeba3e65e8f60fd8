#include "codec/flow_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace heartmula {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr FlowSolver kSolvers[] = {FlowSolver::kEuler, FlowSolver::kAb2, FlowSolver::kMidpoint, FlowSolver::kHeun,
                                   FlowSolver::kDpmpp2m};

/// Runs a schedule for dx/dt = velocity(x, t) from x(0) = 1, in double.
template <typename Velocity>
double solve(const FlowSettings& settings, const Velocity& velocity) {
  double x = 1;
  double x_before = 0;
  double v_before = 0;
  for (const FlowEvaluation& e : flow_schedule(settings)) {
    const double v = velocity(x, static_cast<double>(e.t));
    const double next = e.x_weight * x + e.v_weight * v + e.x_before_weight * x_before + e.v_before_weight * v_before;
    x_before = x;
    v_before = v;
    x = next;
  }
  return x;
}

template <typename Action>
std::string refused(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUser);
    return error.what();
  }
  return "nothing was thrown";
}

// dx/dt = -2 x + t has x(t) = (x(0) + 1/4) e^-2t + t/2 - 1/4.
TEST(FlowSchedule, solvers_converge_with_their_order) {
  const double exact = 1.25 * std::exp(-2.0) + 0.25;
  for (const FlowSolver solver : kSolvers) {
    const auto error = [&](int64_t steps) {
      return std::abs(solve({.solver = solver, .steps = steps}, [](double x, double t) { return -2 * x + t; }) - exact);
    };
    const double order = std::log2(error(80) / error(160));
    if (solver == FlowSolver::kEuler) {
      EXPECT_NEAR(order, 1.0, 0.1);
    } else {
      EXPECT_GT(order, 1.7) << kFlowSolvers.name(solver);
      EXPECT_LT(error(20), 0.005) << kFlowSolvers.name(solver);
    }
  }
}

// A straight path needs one step of any solver, wherever the times are.
TEST(FlowSchedule, a_constant_velocity_is_solved_exactly) {
  for (const FlowSolver solver : kSolvers) {
    for (const FlowGrid& grid : {FlowGrid{}, parse_flow_grid("", "sway"), parse_flow_grid("", "sway:0.5"),
                                 parse_flow_grid("", "epss"), parse_flow_grid("", "0,0.1,0.4,0.5,0.9,1")}) {
      EXPECT_NEAR(solve({.solver = solver, .steps = 5, .grid = grid}, [](double, double) { return 3.0; }), 4.0, 1e-5)
          << kFlowSolvers.name(solver) << " on " << flow_grid_name(grid);
    }
  }
}

TEST(FlowSchedule, runge_kutta_evaluates_twice_and_never_at_the_end) {
  const auto times = [](FlowSolver solver) {
    std::vector<float> all;
    for (const FlowEvaluation& e : flow_schedule({.solver = solver, .steps = 2})) all.push_back(e.t);
    return all;
  };
  EXPECT_THAT(times(FlowSolver::kMidpoint), ElementsAre(0.0f, 0.25f, 0.5f, 0.75f));
  EXPECT_THAT(times(FlowSolver::kHeun), ElementsAre(0.0f, 0.5f, 0.5f));
  EXPECT_THAT(times(FlowSolver::kAb2), ElementsAre(0.0f, 0.5f));
}

TEST(FlowSchedule, steps_say_which_evaluations_are_guided_and_run_the_first_stack) {
  FlowSettings settings{.solver = FlowSolver::kAb2, .steps = 6, .guidance_steps = {0, 2, 4}};
  std::vector<bool> guided;
  for (const FlowEvaluation& e : flow_schedule(settings)) guided.push_back(e.takes_difference);
  EXPECT_EQ(guided, (std::vector<bool>{true, false, true, false, true, false}));
  EXPECT_EQ(flow_cost(settings), 9);
  EXPECT_EQ(flow_cost({}), 20);
  EXPECT_EQ(flow_cost({.guidance = 1.0}), 10);
  EXPECT_EQ(flow_cost({.steps = 10, .first_stack_steps = {0, 2, 4, 6, 8}}), 15);
  EXPECT_EQ(flow_cost({.steps = 2, .flow_map = true}), 2);
}

TEST(FlowSchedule, a_flow_map_gets_the_whole_interval) {
  const std::vector<FlowEvaluation> schedule = flow_schedule({.steps = 4, .flow_map = true});
  ASSERT_EQ(schedule.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(schedule[i].t, 0.25f * static_cast<float>(i));
    EXPECT_EQ(schedule[i].interval, 0.25f);
    EXPECT_FALSE(schedule[i].takes_difference);
  }
}

TEST(FlowSchedule, what_does_not_go_together_is_refused) {
  EXPECT_THAT(refused([] {
                flow_schedule({.steps = 4, .guidance_steps = {0, 4}});
              }),
              HasSubstr("--codec_guidance_steps names step 4, but there are only steps 0 to 3"));
  EXPECT_THAT(refused([] { flow_schedule({.first_stack_steps = {1, 3}}); }), HasSubstr("step 0 must be among them"));
  EXPECT_THAT(refused([] { flow_schedule({.steps = 9, .grid = parse_flow_grid("", "epss")}); }),
              HasSubstr("5, 6, 7, 10, 12 or 16 steps"));
  EXPECT_THAT(refused([] { flow_schedule({.steps = 3, .grid = parse_flow_grid("", "0,0.5,1")}); }),
              HasSubstr("--codec_grid has 3 times, which are 2 steps, but --codec_steps is 3"));
}

TEST(FlowSchedule, words_come_back) {
  for (const char* word : {"uniform", "sway", "sway:0.5", "epss", "0,0.25,1"}) {
    EXPECT_EQ(flow_grid_name(parse_flow_grid("", word)), word);
  }
  for (const char* word : {"all", "0,2,4", "1"}) EXPECT_EQ(flow_steps_name(parse_flow_steps("", word)), word);
  for (const FlowSolver solver : kSolvers) EXPECT_EQ(kFlowSolvers.parse("", kFlowSolvers.name(solver)), solver);
  for (const char* word : {"", "0,", ",1", "0,1,", "0,0,1", "0,0.5", "0.1,1", "nan,1", "sway:2", "sway:", "even"}) {
    EXPECT_THAT(refused([&] { parse_flow_grid("--codec_grid", word); }), HasSubstr("--codec_grid")) << word;
  }
  for (const char* word : {"", "2,1", "0,0", "-1", "0;1", "0.5"}) {
    EXPECT_THAT(refused([&] { parse_flow_steps("--x", word); }), HasSubstr("--x")) << word;
  }
}

TEST(FlowTimes, are_those_of_a_linspace_from_both_ends) {
  const std::vector<float> ten = flow_times({}, 10);
  ASSERT_EQ(ten.size(), 11u);
  for (size_t k = 0; k <= 10; ++k) EXPECT_EQ(ten[k], static_cast<float>(static_cast<double>(k) / 10)) << k;
  for (const int64_t steps : {1, 2, 3, 6, 7, 9, 20, 25, 1000}) {
    const std::vector<float> times = flow_times({}, steps);
    ASSERT_EQ(static_cast<int64_t>(times.size()), steps + 1);
    EXPECT_EQ(times.front(), 0.0f);
    EXPECT_EQ(times.back(), 1.0f);
    const float step = static_cast<float>(1.0 / static_cast<double>(steps));
    for (size_t k = 1; k + 1 < times.size(); ++k) {
      EXPECT_NEAR(times[k], static_cast<double>(k) / static_cast<double>(steps), 1e-7);
      const bool upper = static_cast<int64_t>(k) >= (steps + 1) / 2;
      const auto from_end = static_cast<float>(steps - static_cast<int64_t>(k));
      EXPECT_EQ(times[k], upper ? 1.0f - step * from_end : step * static_cast<float>(k)) << k << " of " << steps;
    }
  }
}

TEST(FlowTimes, sway_is_dense_near_the_noise_or_near_the_music) {
  const std::vector<float> near_noise = flow_times(parse_flow_grid("", "sway"), 8);
  for (size_t i = 0; i <= 8; ++i) {
    EXPECT_NEAR(near_noise[i], 1 - std::cos(std::acos(-1.0) / 2 * static_cast<double>(i) / 8), 1e-6);
  }
  const std::vector<float> near_music = flow_times(parse_flow_grid("", "sway:1"), 8);
  EXPECT_GT(near_music[1], 0.125f);
  EXPECT_TRUE(std::ranges::is_sorted(near_music));
}

}  // namespace
}  // namespace heartmula

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "codec/testing.h"

namespace heartmula {
namespace {

constexpr int64_t kFrames = 12;
constexpr int64_t kKnown = 4;

struct Input {
  oracle::Array noise;
  oracle::Array codes;
  oracle::Array context;
};

Input some_window(const CodecConfig& config, uint32_t seed, int64_t known) {
  return {normal_array(kFrames, config.out_channels, seed), normal_array(kFrames / 2, config.dim, seed + 1),
          normal_array(known, config.out_channels, seed + 2)};
}

std::vector<float> run(Ops& ops, FlowSampler& sampler, const Input& window) {
  const Tensor latents = ops.allocate(DType::kF32, kFrames, window.noise.cols);
  const Tensor context = uploaded(ops, window.context.rows > 0 ? window.context : oracle::Array(1, window.noise.cols));
  const Tensor noise = uploaded(ops, window.noise);
  const Tensor conditioning = uploaded(ops, window.codes);
  const FlowWindow in_flow{latents, noise, conditioning, context.slice_rows(0, window.context.rows)};
  sampler.sample({&in_flow, 1}, {});
  return testing_cpu::read(ops, latents);
}

class FlowSamplerTest : public testing::Test {
 protected:
  VelocityTransformer load(DType dtype) const {
    return VelocityTransformer::load(*ops_, checkpoint_->store(), config_, dtype, kFrames);
  }

  const CodecConfig config_ = small_codec();
  const std::unique_ptr<RandomCheckpoint> checkpoint_ = random_codec(config_, 9);
  const std::unique_ptr<Ops> ops_ = make_cpu_ops({.threads = 2, .isa = {}});
};

TEST_F(FlowSamplerTest, latents_are_those_of_float64) {
  const VelocityTransformer transformer = load(DType::kF32);
  for (const int64_t known : {int64_t{0}, kKnown}) {
    const Input window = some_window(config_, 20, known);
    for (const int64_t steps : {1, 3}) {
      for (const double guidance : {1.25, 2.0, 1.0, 0.5}) {
        FlowSampler sampler(*ops_, transformer, config_, kFrames, {.steps = steps, .guidance = guidance});
        const oracle::Array want = oracle::flow(*checkpoint_, config_, window.noise, window.codes, window.context,
                                                steps, guidance > 1 ? guidance : 1);
        EXPECT_LT(relative_distance(run(*ops_, sampler, window), want.values), 5e-6)
            << known << " known frames, " << steps << " steps, guidance " << guidance;
      }
    }
  }
}

TEST_F(FlowSamplerTest, the_known_beginning_stays_as_it_is) {
  const VelocityTransformer transformer = load(DType::kBF16);
  const Input window = some_window(config_, 30, kKnown);
  FlowSampler sampler(*ops_, transformer, config_, kFrames, {.steps = 3});
  const std::vector<float> latents = run(*ops_, sampler, window);
  EXPECT_EQ(std::vector<float>(latents.begin(), latents.begin() + kKnown * config_.out_channels),
            testing_cpu::floats(window.context));
}

TEST_F(FlowSamplerTest, a_window_is_the_same_alone_and_after_another) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const VelocityTransformer transformer = load(dtype);
    for (const int64_t known : {int64_t{0}, kKnown}) {
      const Input window = some_window(config_, 40, known);
      FlowSampler fresh(*ops_, transformer, config_, kFrames, {.steps = 2});
      FlowSampler used(*ops_, transformer, config_, kFrames, {.steps = 2});
      run(*ops_, used, some_window(config_, 50, kKnown - known));
      EXPECT_TRUE(testing_cpu::same_bits(run(*ops_, used, window), run(*ops_, fresh, window)));
    }
  }
}

TEST_F(FlowSamplerTest, every_step_is_reported) {
  const VelocityTransformer transformer = load(DType::kF32);
  const Input window = some_window(config_, 60, 0);
  FlowSampler sampler(*ops_, transformer, config_, kFrames, {.steps = 3, .guidance = 1.0});
  const Tensor latents = ops_->allocate(DType::kF32, kFrames, config_.out_channels);
  std::vector<int64_t> reports;
  const Tensor noise = uploaded(*ops_, window.noise);
  const Tensor conditioning = uploaded(*ops_, window.codes);
  const FlowWindow in_flow{latents, noise, conditioning};
  sampler.sample({&in_flow, 1}, [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 3);
    reports.push_back(done);
  });
  EXPECT_EQ(reports, (std::vector<int64_t>{1, 2, 3}));
}

/// Of a window as the reference has it, in float64, by the solver's textbook form.
oracle::Array solved(const RandomCheckpoint& weights, const CodecConfig& c, const Input& window,
                     const FlowSettings& settings) {
  const std::vector<float> times = flow_times(settings.grid, settings.steps);
  oracle::Array mu(kFrames, c.dim);
  for (int64_t r = 0; r < kFrames; ++r) {
    for (int64_t d = 0; d < c.dim; ++d) mu.at(r, d) = window.codes.at(r / 2, d);
  }
  oracle::Array known(kFrames, c.out_channels);
  std::ranges::copy(window.context.values, known.values.begin());
  const auto contains = [](const std::vector<int64_t>& steps, int64_t step) {
    return steps.empty() || std::ranges::find(steps, step) != steps.end();
  };
  using Values = std::vector<double>;
  Values difference(known.values.size());
  // The velocity at x, whose known frames are put onto their path.
  const auto velocity = [&](Values& values, double t, int64_t step, double interval) {
    oracle::Array x(kFrames, c.out_channels);
    for (int64_t r = 0; r < window.context.rows; ++r) {
      for (int64_t i = 0; i < c.out_channels; ++i) {
        values[static_cast<size_t>(r * c.out_channels + i)] =
            (1 - (1 - 1e-6) * t) * window.noise.at(r, i) + t * known.at(r, i);
      }
    }
    x.values = values;
    const auto at = [&](const oracle::Array& condition) {
      return oracle::velocity(weights, c, oracle::joined(oracle::joined(x, known), condition), static_cast<float>(t),
                              static_cast<float>(interval))
          .values;
    };
    Values v = at(mu);
    if (!settings.guided()) return v;
    if (contains(settings.guidance_steps, step)) {
      const Values u = at(oracle::Array(kFrames, c.dim));
      for (size_t i = 0; i < v.size(); ++i) difference[i] = v[i] - u[i];
    }
    for (size_t i = 0; i < v.size(); ++i) v[i] += (settings.guidance - 1) * difference[i];
    return v;
  };
  const auto plus = [](const Values& x, double a, const Values& v) {
    Values sum = x;
    for (size_t i = 0; i < x.size(); ++i) sum[i] += a * v[i];
    return sum;
  };
  Values x = window.noise.values;
  Values v_before;
  Values music_before;
  for (int64_t k = 0; k < settings.steps; ++k) {
    const double t = times[static_cast<size_t>(k)];
    const double next = times[static_cast<size_t>(k + 1)];
    const double before = k > 0 ? times[static_cast<size_t>(k - 1)] : 0;
    const double h = next - t;
    const Values v = velocity(x, t, k, h);
    Values music = x;  // D = (1 - 1e-6) x + sigma v
    for (size_t i = 0; i < x.size(); ++i) music[i] = (1 - 1e-6) * x[i] + (1 - (1 - 1e-6) * t) * v[i];
    if (settings.solver == FlowSolver::kAb2 && k > 0) {
      const double r = h / (t - before);
      x = plus(plus(x, h * (1 + r / 2), v), -h * r / 2, v_before);
    } else if (settings.solver == FlowSolver::kMidpoint) {
      Values middle = plus(x, h / 2, v);
      x = plus(x, h, velocity(middle, t + h / 2, k, h));
    } else if (settings.solver == FlowSolver::kHeun && k + 1 < settings.steps) {
      Values end = plus(x, h, v);
      x = plus(plus(x, h / 2, v), h / 2, velocity(end, next, k, h));
    } else if (settings.solver == FlowSolver::kDpmpp2m && k > 0 && k + 1 < settings.steps) {
      const auto sigma = [](double time) { return 1 - (1 - 1e-6) * time; };
      const auto lambda = [&](double time) { return time == 0 ? std::log(1e-3) : std::log(time / sigma(time)); };
      const double step = lambda(next) - lambda(t);
      const double r = (lambda(t) - lambda(before)) / step;
      for (size_t i = 0; i < x.size(); ++i) {
        const double d = (1 + 1 / (2 * r)) * music[i] - 1 / (2 * r) * music_before[i];
        x[i] = sigma(next) / sigma(t) * x[i] - next * (std::exp(-step) - 1) * d;
      }
    } else {
      x = plus(x, h, v);
    }
    v_before = v;
    music_before = music;
  }
  std::ranges::copy(window.context.values, x.begin());
  oracle::Array latents(kFrames, c.out_channels);
  latents.values = x;
  return latents;
}

TEST_F(FlowSamplerTest, every_solver_is_that_of_its_textbook_in_float64) {
  const VelocityTransformer transformer = load(DType::kF32);
  for (const FlowSolver solver :
       {FlowSolver::kEuler, FlowSolver::kAb2, FlowSolver::kMidpoint, FlowSolver::kHeun, FlowSolver::kDpmpp2m}) {
    for (const std::vector<int64_t>& guided : {std::vector<int64_t>{}, {0, 2}, {1, 3}}) {
      for (const char* grid : {"uniform", "sway:0.5", "0,0.2,0.3,0.7,1"}) {
        const FlowSettings settings{
            .solver = solver, .steps = 4, .grid = parse_flow_grid("", grid), .guidance_steps = guided};
        const Input window = some_window(config_, 70, kKnown);
        FlowSampler sampler(*ops_, transformer, config_, kFrames, settings);
        EXPECT_LT(
            relative_distance(run(*ops_, sampler, window), solved(*checkpoint_, config_, window, settings).values),
            1e-5)
            << kFlowSolvers.name(solver) << " on " << grid << ", guided " << flow_steps_name(guided);
      }
    }
  }
}

TEST_F(FlowSamplerTest, a_student_sees_the_interval_and_no_guidance) {
  CodecConfig config = config_;
  config.student = CodecStudent{.steps = {2}, .base = ""};
  const auto checkpoint = random_codec(config, 31);
  const VelocityTransformer transformer =
      VelocityTransformer::load(*ops_, checkpoint->store(), config, DType::kF32, kFrames);
  const FlowSettings settings{.steps = 2, .guidance = 1.0, .flow_map = true};
  const Input window = some_window(config, 80, kKnown);
  FlowSampler sampler(*ops_, transformer, config, kFrames, settings);
  const std::vector<float> latents = run(*ops_, sampler, window);
  EXPECT_LT(relative_distance(latents, solved(*checkpoint, config, window, settings).values), 1e-5);
}

// With the first stack's result of step 0 in every step, only the second stack hears of time and latents.
TEST_F(FlowSamplerTest, what_the_first_stack_gave_is_used_again) {
  const VelocityTransformer transformer = load(DType::kF32);
  const Input window = some_window(config_, 90, 0);
  FlowSettings settings{.steps = 3, .guidance = 1.0, .first_stack_steps = {0}};
  FlowSampler sampler(*ops_, transformer, config_, kFrames, settings);
  oracle::Array mu(kFrames, config_.dim);
  for (int64_t r = 0; r < kFrames; ++r) {
    for (int64_t d = 0; d < config_.dim; ++d) mu.at(r, d) = window.codes.at(r / 2, d);
  }
  const std::string root = "flow_matching.estimator.";
  const oracle::Array nothing(kFrames, config_.out_channels);
  oracle::Array x = window.noise;
  oracle::Array first(0, 0);
  for (int64_t k = 0; k < 3; ++k) {
    const auto t = static_cast<float>(static_cast<double>(k) / 3);
    const oracle::Array h = oracle::joined(oracle::joined(x, nothing), mu);
    if (k == 0) {
      first = oracle::stack(*checkpoint_, oracle::project_layer(*checkpoint_, h, root + "proj_in."), "",
                            config_.num_layers, config_.num_heads, t);
    }
    const oracle::Array between =
        oracle::project_layer(*checkpoint_, oracle::joined(h, first), root + "connection_proj.");
    const oracle::Array v = oracle::project_layer(
        *checkpoint_, oracle::stack(*checkpoint_, between, "_2", config_.num_layers_2, config_.num_heads, t),
        root + "proj_out.");
    for (size_t i = 0; i < x.values.size(); ++i) x.values[i] += v.values[i] / 3;
  }
  EXPECT_LT(relative_distance(run(*ops_, sampler, window), x.values), 1e-5);
}

TEST_F(FlowSamplerTest, windows_of_one_call_are_those_of_calls_of_their_own) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const VelocityTransformer transformer = load(dtype);
    const FlowSettings settings{.solver = FlowSolver::kAb2, .steps = 3, .guidance_steps = {0, 2}};
    FlowSampler one(*ops_, transformer, config_, kFrames, settings);
    FlowSampler three(*ops_, transformer, config_, kFrames, settings, 3);
    std::vector<Input> inputs;
    std::vector<Tensor> tensors;
    std::vector<FlowWindow> windows;
    const auto keep = [&](Tensor tensor) -> View { return tensors.emplace_back(std::move(tensor)); };
    for (const uint32_t seed : {100u, 110u, 120u}) {
      const Input& input = inputs.emplace_back(some_window(config_, seed, seed == 100 ? 0 : kKnown));
      FlowWindow window{keep(ops_->allocate(DType::kF32, kFrames, config_.out_channels)),
                        keep(uploaded(*ops_, input.noise)), keep(uploaded(*ops_, input.codes))};
      if (input.context.rows > 0) window.context = keep(uploaded(*ops_, input.context));
      windows.push_back(window);
    }
    three.sample(windows, {});
    for (size_t i = 0; i < windows.size(); ++i) {
      std::vector<float> latents(static_cast<size_t>(kFrames * config_.out_channels));
      ops_->download(latents, windows[i].latents);
      EXPECT_TRUE(testing_cpu::same_bits(latents, run(*ops_, one, inputs[i]))) << i;
    }
  }
}

TEST_F(FlowSamplerTest, a_window_may_be_shorter_than_the_longest) {
  const VelocityTransformer transformer = load(DType::kF32);
  const Input window = some_window(config_, 130, kKnown);
  const FlowSettings settings{.steps = 2};
  FlowSampler exact(*ops_, transformer, config_, kFrames, settings);
  FlowSampler roomy(*ops_, transformer, config_, 3 * kFrames, settings);
  const std::vector<float> expected = run(*ops_, exact, window);
  EXPECT_TRUE(testing_cpu::same_bits(run(*ops_, roomy, window), expected));
  const Tensor noise = uploaded(*ops_, normal_array(3 * kFrames, config_.out_channels, 140));
  const Tensor conditioning = uploaded(*ops_, normal_array(3 * kFrames / 2, config_.dim, 141));
  const Tensor latents = ops_->allocate(DType::kF32, 3 * kFrames, config_.out_channels);
  const FlowWindow longest{latents, noise, conditioning};
  roomy.sample({&longest, 1}, {});
  EXPECT_TRUE(testing_cpu::same_bits(run(*ops_, roomy, window), expected)) << "after a longer one";
}

}  // namespace
}  // namespace heartmula

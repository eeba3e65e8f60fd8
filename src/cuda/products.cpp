#include "cuda/products.h"

#include <algorithm>

#include "base/error.h"
#include "cuda/kernels/norm.h"

namespace heartmula::cuda {
namespace {

/// Rows that a product of few rows norms on their way: every block does it again, so more are normed once before.
constexpr int kMostNormedRows = 4;

const DeviceMatrix& storage_of(const Matrix& weight) {
  return static_cast<const DeviceMatrix&>(weight.storage());
}

bool is_few(const Matrix& weight) {
  return storage_of(weight).stride == 0;
}

GemmWeight gemm_weight(const Matrix& weight, bool gate) {
  const DeviceMatrix& matrix = storage_of(weight);
  return {matrix.data.get(), weight.dtype(), gate ? 2 * weight.n() : weight.n(), weight.k(), matrix.stride};
}

}  // namespace

Products::Products(DeviceState& state) : state_(state) {
  const cudaDeviceProp& p = state.properties();
  resources_.multiprocessors = p.multiProcessorCount;
  resources_.shared_bytes = static_cast<int>(p.sharedMemPerBlockOptin);
  resources_.bulk_copies = p.major >= 9;
}

void Products::prepare(const DeviceMatrix& matrix, int64_t n) {
  if (matrix.stride == 0) most_outputs_ = std::max(most_outputs_, n);
}

void Products::run(View out, const GemmInput& input, const Matrix& weight, const GemmEpilogue& epilogue) {
  if (is_few(weight)) {
    if (input.taps != 1) throw failure("the language model has no convolutions");
    run_few(out, input.x, nullptr, weight, epilogue);
    return;
  }
  many_.multiply(state_.stream(), out, input, gemm_weight(weight, epilogue.gate), epilogue);
}

void Products::run_normed(View out, const Normed& x, const Matrix& weight, const GemmEpilogue& epilogue) {
  if (is_few(weight)) {
    run_few(out, x.x, &x, weight, epilogue);
    return;
  }
  rms_norm(state_.stream(), x.memory, x.x, x.gain, {}, {}, x.eps);
  run(out, {.x = x.memory}, weight, epilogue);
}

void Products::run_few(View out, ConstView x, const Normed* normed, const Matrix& weight,
                       const GemmEpilogue& epilogue) {
  const DeviceMatrix& matrix = storage_of(weight);
  FewProduct p;
  p.weights = matrix.data.get();
  p.dtype = weight.dtype();
  p.n = static_cast<int>(matrix.few.n);
  p.k = static_cast<int>(matrix.few.k);
  p.slice = static_cast<int>(matrix.few.slice());
  p.units = static_cast<int>(matrix.few.units());
  p.x = x.data;
  p.x_stride = x.stride;
  p.rows = static_cast<int>(out.rows);
  p.out = out.data;
  p.out_stride = out.stride;
  p.out_bf16 = out.dtype == DType::kBF16;
  p.bias = epilogue.bias;
  p.scale = epilogue.gain;
  p.add = epilogue.add;
  p.gate = epilogue.gate;
  const bool few = p.dtype == DType::kF32 || few_fits(p, resources_);
  if (normed != nullptr && few && (p.dtype == DType::kF32 || p.rows <= kMostNormedRows)) {
    p.norm_gain = floats_of(normed->gain);
    p.norm_eps = normed->eps;
  } else if (normed != nullptr) {
    rms_norm(state_.stream(), normed->memory, normed->x, normed->gain, {}, {}, normed->eps);
    p.x = normed->memory.data;
    p.x_stride = normed->memory.stride;
  }
  if (few) {
    few_product(state_.stream(), p, resources_);
    return;
  }
  resources_.workspace = static_cast<float*>(
      state_.scratch(DeviceState::Scratch::kProduct, many_workspace_floats(most_outputs_) * int64_t{sizeof(float)}));
  many_product(state_.stream(), p, resources_);
}

void Products::run_residual_unit(View out, View copy, ConstView x, const ResidualUnit& unit) {
  const int64_t width = unit.conv1.n();
  const DType dtype = unit.conv1.dtype();
  const int64_t bytes = out.rows * width * static_cast<int64_t>(dtype_size(dtype));
  const View between{state_.scratch(DeviceState::Scratch::kBetween, bytes), dtype, out.rows, width, width};
  residual_unit_gemm(state_.stream(), out, copy,
                     {.input = {x, unit.taps, unit.dilation},
                      .first = gemm_weight(unit.conv1, false),
                      .bias1 = floats_of(unit.bias1),
                      .slope1 = unit.slope1,
                      .second = gemm_weight(unit.conv2, false),
                      .bias2 = floats_of(unit.bias2),
                      .slope2 = unit.slope2},
                     between, many_.limits());
}

}  // namespace heartmula::cuda

#include "ops/weights.h"

namespace heartmula {
namespace {

MatrixSource stacked(const std::vector<const StoredTensor*>& parts) {
  MatrixSource source;
  source.k = parts.front()->shape[1];
  for (const StoredTensor* part : parts) source.n += part->shape[0];
  source.read_row = [parts, k = source.k](int64_t output, float* row) {
    for (const StoredTensor* part : parts) {
      if (output < part->shape[0]) {
        convert_to_f32(row, part->data.data(), part->dtype, output * k, k);
        return;
      }
      output -= part->shape[0];
    }
  };
  return source;
}

}  // namespace

std::vector<float> WeightLoader::values(const std::string& name) const {
  const StoredTensor& tensor = store_.get(name);
  std::vector<float> result(static_cast<size_t>(tensor.elements()));
  convert_to_f32(result.data(), tensor.data.data(), tensor.dtype, 0, tensor.elements());
  store_.release(tensor);
  return result;
}

Tensor WeightLoader::upload(const std::vector<float>& values, int64_t rows) const {
  Tensor result = ops_.allocate(DType::kF32, rows, static_cast<int64_t>(values.size()) / rows);
  ops_.upload(result, values);
  return result;
}

Tensor WeightLoader::vector(const std::string& name) const {
  return upload(values(name), 1);
}

Tensor WeightLoader::table(const std::string& name, int64_t rows) const {
  return upload(values(name), rows);
}

Matrix WeightLoader::matrix(const std::vector<std::string>& names) const {
  std::vector<const StoredTensor*> parts;
  for (const std::string& name : names) parts.push_back(&store_.get(name));
  Matrix result = ops_.pack(stacked(parts), dtype_);
  for (const StoredTensor* part : parts) store_.release(*part);
  return result;
}

Matrix WeightLoader::gate_up(const std::string& gate, const std::string& up) const {
  const StoredTensor& gate_tensor = store_.get(gate);
  const StoredTensor& up_tensor = store_.get(up);
  Matrix result = ops_.pack_gate_up(stacked({&gate_tensor}), stacked({&up_tensor}), dtype_);
  store_.release(gate_tensor);
  store_.release(up_tensor);
  return result;
}

Matrix WeightLoader::transposed_slice(const std::string& name, int64_t index) const {
  const StoredTensor& tensor = store_.get(name);
  const int64_t k = tensor.shape[1];
  const int64_t n = tensor.shape[2];
  const auto read_row = [&tensor, index, k, n](int64_t output, float* row) {
    for (int64_t i = 0; i < k; ++i) {
      row[i] = load_as_f32(tensor.data.data(), tensor.dtype, (index * k + i) * n + output);
    }
  };
  Matrix result = ops_.pack({n, k, read_row}, dtype_);
  store_.release(tensor);
  return result;
}

Matrix WeightLoader::conv(const std::string& name, float scale) const {
  const StoredTensor& tensor = store_.get(name);
  const int64_t channels = tensor.shape[1];
  const int64_t taps = tensor.shape[2];
  const auto read_row = [&tensor, channels, taps, scale](int64_t output, float* row) {
    std::vector<float> stored(static_cast<size_t>(channels * taps));
    convert_to_f32(stored.data(), tensor.data.data(), tensor.dtype, output * channels * taps, channels * taps);
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t channel = 0; channel < channels; ++channel) {
        row[tap * channels + channel] = scale * stored[static_cast<size_t>(channel * taps + tap)];
      }
    }
  };
  Matrix result = ops_.pack({tensor.shape[0], channels * taps, read_row}, dtype_);
  store_.release(tensor);
  return result;
}

}  // namespace heartmula

// Random weights on the disk, for models of any size.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/testing.h"
#include "reference/oracle.h"
#include "tensor/weight_store.h"

namespace heartmula {

class RandomCheckpoint {
 public:
  /// F32 tensors: a norm's gains lie around 1, a matrix keeps the size of what it is multiplied with.
  RandomCheckpoint(const std::vector<ExpectedTensor>& expected, uint32_t seed,
                   const std::map<std::string, std::string>& metadata = {}) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    std::vector<std::vector<float>> values;
    std::vector<TensorToWrite> tensors;
    for (const ExpectedTensor& tensor : expected) {
      int64_t elements = 1;
      for (const int64_t size : tensor.shape) elements *= size;
      const bool vector = tensor.shape.size() == 1;
      const bool gain = vector && tensor.name.find("norm") != std::string::npos;
      const double scale = vector ? 0.3 : 1 / std::sqrt(static_cast<double>(elements / tensor.shape[0]));
      std::vector<float>& data = values.emplace_back();
      for (int64_t i = 0; i < elements; ++i) data.push_back(static_cast<float>(gain + scale * normal(generator)));
      tensors.push_back({tensor.name, DType::kF32, tensor.shape, {}});
    }
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = std::as_bytes(std::span(values[i]));
    const std::vector<std::byte> bytes = encode_safetensors(tensors, metadata);
    const std::filesystem::path path =
        folder_.write("model.safetensors", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    store_ = WeightStore::open(path);
  }

  const WeightStore& store() const { return store_; }
  const std::filesystem::path& path() const { return store_.path(); }
  /// In float64, the first axis by all others.
  oracle::Array array(const std::string& name) const {
    const StoredTensor& tensor = store_.get(name);
    oracle::Array array(tensor.shape[0], tensor.elements() / tensor.shape[0]);
    for (size_t i = 0; i < array.values.size(); ++i) array.values[i] = value(tensor, i);
    return array;
  }
  oracle::Array row(const std::string& name) const {
    oracle::Array array = this->array(name);
    array.cols = std::exchange(array.rows, 1) * array.cols;
    return array;
  }

 private:
  static double value(const StoredTensor& tensor, size_t index) {
    float value = 0;
    std::memcpy(&value, tensor.data.data() + index * sizeof(value), sizeof(value));
    return value;
  }

  TemporaryFolder folder_;
  WeightStore store_;
};

/// RMS of the difference over RMS of `want`; infinite if the shapes differ or anything is not a number.
inline double relative_distance(const std::vector<float>& got, const std::vector<double>& want) {
  double difference = 0;
  double size = 0;
  if (got.size() != want.size()) return INFINITY;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += want[i] * want[i];
  }
  const double distance = std::sqrt(difference / size);
  return std::isnan(distance) ? INFINITY : distance;
}

}  // namespace heartmula

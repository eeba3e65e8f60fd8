// The operations in plain float64, one loop after another: what the kernels are compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace heartmula::oracle {

struct Array {
  Array() = default;
  Array(int64_t r, int64_t c) : rows(r), cols(c), values(static_cast<size_t>(r * c)) {}

  double& at(int64_t row, int64_t col) { return values[static_cast<size_t>(row * cols + col)]; }
  double at(int64_t row, int64_t col) const { return values[static_cast<size_t>(row * cols + col)]; }

  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;
};

/// out[t] = sum over j < taps of W_j x[t + j * dilation], W = [n, taps * channels].
inline Array conv1d(const Array& x, const Array& w, int64_t taps, int64_t dilation) {
  const int64_t channels = w.cols / taps;
  Array out(x.rows - (taps - 1) * dilation, w.rows);
  for (int64_t t = 0; t < out.rows; ++t) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double sum = 0;
      for (int64_t j = 0; j < taps; ++j) {
        for (int64_t c = 0; c < channels; ++c) sum += x.at(t + j * dilation, c) * w.at(n, j * channels + c);
      }
      out.at(t, n) = sum;
    }
  }
  return out;
}

/// x W^T
inline Array product(const Array& x, const Array& w) {
  return conv1d(x, w, 1, 1);
}

/// Every value's absolute value: conv1d of these bounds the rounding errors of a sum.
inline Array absolute(Array x) {
  for (double& v : x.values) v = std::fabs(v);
  return x;
}

inline double silu(double x) {
  return x / (1 + std::exp(-x));
}

/// Of one row.
inline double mean(const Array& x, int64_t row) {
  double sum = 0;
  for (int64_t c = 0; c < x.cols; ++c) sum += x.at(row, c);
  return sum / static_cast<double>(x.cols);
}

/// x / sqrt(mean(x^2) + eps)
inline Array rms_normalized(Array x, double eps) {
  for (int64_t r = 0; r < x.rows; ++r) {
    double squares = 0;
    for (int64_t c = 0; c < x.cols; ++c) squares += x.at(r, c) * x.at(r, c);
    const double root = std::sqrt(squares / static_cast<double>(x.cols) + eps);
    for (int64_t c = 0; c < x.cols; ++c) x.at(r, c) /= root;
  }
  return x;
}

/// (x - mean(x)) / sqrt(var(x) + eps)
inline Array layer_normalized(Array x, double eps) {
  for (int64_t r = 0; r < x.rows; ++r) {
    const double center = mean(x, r);
    for (int64_t c = 0; c < x.cols; ++c) x.at(r, c) -= center;
  }
  return rms_normalized(std::move(x), eps);
}

/// Interleaved pairs of each head; cos and sin [positions, head_dim / 2].
inline Array rotated(Array x, const Array& cos, const Array& sin, const std::vector<int32_t>& positions) {
  const int64_t pairs = cos.cols;
  for (int64_t r = 0; r < x.rows; ++r) {
    const int64_t position = positions[static_cast<size_t>(r)];
    for (int64_t c = 0; c < x.cols / 2; ++c) {
      const double cosine = cos.at(position, c % pairs);
      const double sine = sin.at(position, c % pairs);
      const double x0 = x.at(r, 2 * c);
      const double x1 = x.at(r, 2 * c + 1);
      x.at(r, 2 * c) = x0 * cosine - x1 * sine;
      x.at(r, 2 * c + 1) = x1 * cosine + x0 * sine;
    }
  }
  return x;
}

/// Row r of q [rows, heads * hd] over the first counts[r] rows of k and v [positions, kv_heads * hd].
inline Array attention(const Array& q, const Array& k, const Array& v, int64_t heads, int64_t kv_heads,
                       const std::vector<int64_t>& counts) {
  const int64_t dim = q.cols / heads;
  Array out(q.rows, q.cols);
  for (int64_t r = 0; r < q.rows; ++r) {
    const int64_t count = counts[static_cast<size_t>(r)];
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv_head = h / (heads / kv_heads);
      std::vector<double> weights;
      for (int64_t p = 0; p < count; ++p) {
        double score = 0;
        for (int64_t d = 0; d < dim; ++d) score += q.at(r, h * dim + d) * k.at(p, kv_head * dim + d);
        weights.push_back(score / std::sqrt(static_cast<double>(dim)));
      }
      const double greatest = *std::max_element(weights.begin(), weights.end());
      double sum = 0;
      for (double& weight : weights) sum += weight = std::exp(weight - greatest);
      for (int64_t d = 0; d < dim; ++d) {
        double mixed = 0;
        for (int64_t p = 0; p < count; ++p) mixed += weights[static_cast<size_t>(p)] * v.at(p, kv_head * dim + d);
        out.at(r, h * dim + d) = mixed / sum;
      }
    }
  }
  return out;
}

}  // namespace heartmula::oracle

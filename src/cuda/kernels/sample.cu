// One block. A search through the upper bits of order-preserving keys among the threads' own maxima, each bit one
// counting barrier, gives a lower bound for the k-th largest value; the few values that reach it are ranked one by one,
// a thread each. Where they are too many (large k, ties), a search among all values. Compiled, like everything here,
// without contraction: the arithmetic is the host's.
#include <algorithm>

#include "base/random.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/sample.h"
#include "cuda/launch.h"
#include "sampling/portable_log.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kMostCandidates = kThreads;
constexpr int kBoundBits = 16;  // the last bit of the lower bound
constexpr int kAtOnce = 9;      // logits that a thread reads before it uses the first
constexpr int kWarps = kThreads / kWarp;

struct Sampling {
  const float* logits;
  int64_t stride;
  int vocabulary;
  const int32_t* frame;
  int32_t* codes;
  int64_t code_stride;
  int code_rows;
  float guidance;  // 0 for none
  float temperature;
  int topk;
  int64_t min_frames;
  int64_t end_code;
  uint32_t codebook;
  DeviceNoise noise;
};

/// Keys in the order of the values; not for NaN. Of -0 and 0 the order is the key's, but they are equal as values, so
/// zeros get one key.
__device__ inline uint32_t key_of(float value) {
  const uint32_t bits = __float_as_uint(value == 0.0f ? 0.0f : value);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ inline float scaled_logit(const Sampling& p, float guided, float unconditional) {
  if (p.guidance > 0.0f) guided = unconditional + p.guidance * (guided - unconditional);
  return guided / p.temperature;
}

__device__ HEARTMULA_APART double log_exponential(const Sampling& p, uint32_t frame, uint32_t token) {
  if (p.noise.tape != nullptr) {
    return p.noise.tape[(static_cast<int64_t>(frame) * p.noise.codebooks + p.codebook) * p.vocabulary + token];
  }
  const auto words = philox4x32({token >> 2, p.codebook, frame, static_cast<uint32_t>(RandomDomain::kCodes)},
                                philox_key(p.noise.seed));
  return portable_log(-portable_log(open_uniform(words[token & 3])));
}

/// The largest threshold, in bits from `last_bit` on, that at least `keep` of the keys that key(i) gives reach; every
/// thread brings `count` of them.
template <typename Key>
__device__ inline uint32_t threshold_of(int keep, int count, int last_bit, Key key) {
  uint32_t threshold = 0;
  HEARTMULA_KEEP_LOOP
  for (int bit = 31; bit >= last_bit; --bit) {
    const uint32_t trial = threshold | (1u << bit);
    int reached = 0;
    HEARTMULA_KEEP_LOOP
    for (int i = 0; i < count; ++i) reached += count_block(key(i) >= trial);
    if (reached >= keep) threshold = trial;
  }
  return threshold;
}

struct Best {
  double score;
  int token;  // -1 for none
};
__device__ inline Best better(Best a, Best b) {
  if (a.token < 0) return b;
  if (b.token < 0) return a;
  if (a.score != b.score) return a.score > b.score ? a : b;
  return a.token < b.token ? a : b;
}

__global__ void __launch_bounds__(kThreads) sample_kernel(Sampling p) {
  auto* scaled = reinterpret_cast<float*>(dynamic_shared());  // [vocabulary]
  __shared__ int32_t candidates[kMostCandidates];             // tokens
  __shared__ int32_t candidate_count;
  __shared__ Best best_of_warp[kWarps];
  start_next();
  wait_for_previous();
  const int thread = static_cast<int>(threadIdx.x);
  const int32_t frame = *p.frame;
  const bool may_end = frame == 0 || frame >= p.min_frames;
  const int tokens = may_end || p.end_code > p.vocabulary ? p.vocabulary : static_cast<int>(p.end_code);
  const int keep = p.topk < tokens ? p.topk : tokens;
  const int per_thread = (p.vocabulary + kThreads - 1) / kThreads;
  if (thread == 0) candidate_count = 0;

  bool broken =
      p.noise.tape != nullptr && static_cast<int64_t>(frame) * p.noise.codebooks + p.codebook >= p.noise.tape_draws;
  uint32_t greatest = 0;
  HEARTMULA_KEEP_LOOP
  for (int first = thread; first < p.vocabulary; first += kAtOnce * kThreads) {
    float conditional[kAtOnce];
    float unconditional[kAtOnce];
    HEARTMULA_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const int v = first + i * kThreads;
      conditional[i] = v < p.vocabulary ? p.logits[v] : 0.0f;
      unconditional[i] = v < p.vocabulary && p.guidance > 0.0f ? p.logits[p.stride + v] : 0.0f;
    }
    HEARTMULA_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const int v = first + i * kThreads;
      if (v >= p.vocabulary) break;
      const float value = scaled_logit(p, conditional[i], unconditional[i]);
      scaled[v] = value;
      if (value != value) broken = true;
      if (v < tokens) greatest = max(greatest, key_of(value));
    }
  }
  if (count_block(broken) > 0) {
    if (thread < p.code_rows) p.codes[thread * p.code_stride] = -1;
    return;
  }

  const auto token_key = [&](int i) {
    const int v = thread + i * kThreads;
    return v < tokens ? key_of(scaled[v]) : 0u;  // no value has the key 0
  };
  uint32_t threshold = keep <= kThreads ? threshold_of(keep, 1, kBoundBits, [&](int) { return greatest; }) : 0u;
  HEARTMULA_KEEP_LOOP
  for (int i = 0; i < per_thread; ++i) {
    const uint32_t key = token_key(i);
    if (key < threshold || key == 0) continue;
    const int place = add_and_get(&candidate_count, 1);
    if (place < kMostCandidates) candidates[place] = thread + i * kThreads;
  }
  sync_block();
  const int count = candidate_count;

  Best best = {0.0, -1};
  const auto consider = [&](int token) {
    const double score = static_cast<double>(scaled[token]) -
                         log_exponential(p, static_cast<uint32_t>(frame), static_cast<uint32_t>(token));
    best = better(best, {score, token});
  };
  if (count <= kMostCandidates) {
    if (thread < count) {
      const int token = candidates[thread];
      int greater = 0;
      for (int i = 0; i < count; ++i) greater += scaled[candidates[i]] > scaled[token] ? 1 : 0;
      if (greater < keep) consider(token);
    }
  } else {
    threshold = threshold_of(keep, per_thread, 0, token_key);
    HEARTMULA_KEEP_LOOP
    for (int i = 0; i < per_thread; ++i) {
      const uint32_t key = token_key(i);
      if (key >= threshold && key > 0) consider(thread + i * kThreads);
    }
  }
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    best = better(best, {shuffle_xor(best.score, mask), shuffle_xor(best.token, mask)});
  }
  if (thread % kWarp == 0) best_of_warp[thread / kWarp] = best;
  sync_block();
  if (thread == 0) {
    for (int warp = 1; warp < kWarps; ++warp) best = better(best, best_of_warp[warp]);
    best_of_warp[0] = best;
  }
  sync_block();
  if (thread < p.code_rows) p.codes[thread * p.code_stride] = best_of_warp[0].token;
}

}  // namespace

void sample(cudaStream_t stream, View codes, ConstView logits, ConstView frame, const SamplingRule& rule,
            const DeviceNoise& noise, uint32_t codebook) {
  Sampling p = {};
  p.logits = floats_of(logits);
  p.stride = logits.stride;
  p.vocabulary = static_cast<int>(logits.cols);
  p.frame = static_cast<const int32_t*>(frame.data);
  p.codes = static_cast<int32_t*>(codes.data);
  p.code_stride = codes.stride;
  p.code_rows = static_cast<int>(codes.rows);
  p.guidance = rule.settings.guidance > 1.0f ? rule.settings.guidance : 0.0f;
  p.temperature = rule.settings.temperature;
  p.topk = static_cast<int>(std::min<int64_t>(rule.settings.topk, logits.cols));
  p.min_frames = rule.min_frames;
  p.end_code = rule.end_code;
  p.codebook = codebook;
  p.noise = noise;
  launch(stream, {dim3(1), dim3(kThreads), static_cast<size_t>(p.vocabulary) * sizeof(float)}, sample_kernel, p);
}

}  // namespace heartmula::cuda

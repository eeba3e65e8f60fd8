// One block. The k-th largest of V values by a search through the bits of order-preserving keys, each bit one counting
// barrier: first among the threads' own maxima, which gives a lower bound for it; then among the few values above that
// bound. Compiled, like everything here, without contraction: the arithmetic is the host's.
#include <algorithm>

#include "base/random.h"
#include "cuda/kernels/device.h"
#include "cuda/kernels/sample.h"
#include "cuda/launch.h"
#include "sampling/portable_log.h"

namespace heartmula::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kMostCandidates = 1024;
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

__device__ inline float scaled_logit(const Sampling& p, int v) {
  float guided = p.logits[v];
  if (p.guidance > 0.0f) {
    const float unconditional = p.logits[p.stride + v];
    guided = unconditional + p.guidance * (guided - unconditional);
  }
  return guided / p.temperature;
}

__device__ inline double log_exponential(const Sampling& p, uint32_t frame, uint32_t token) {
  if (p.noise.tape != nullptr) {
    return p.noise.tape[(static_cast<int64_t>(frame) * p.noise.codebooks + p.codebook) * p.vocabulary + token];
  }
  const auto words = philox4x32({token >> 2, p.codebook, frame, static_cast<uint32_t>(RandomDomain::kCodes)},
                                philox_key(p.noise.seed));
  return portable_log(-portable_log(open_uniform(words[token & 3])));
}

/// The largest threshold that at least `keep` of the keys that key(i) gives reach; every thread brings `count` of them.
template <typename Key>
__device__ inline uint32_t threshold_of(int keep, int count, Key key) {
  uint32_t threshold = 0;
  for (int bit = 31; bit >= 0; --bit) {
    const uint32_t trial = threshold | (1u << bit);
    int reached = 0;
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
  __shared__ uint32_t candidates[kMostCandidates];
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
  for (int v = thread; v < p.vocabulary; v += kThreads) {
    const float value = scaled_logit(p, v);
    scaled[v] = value;
    if (value != value) broken = true;
    if (v < tokens) greatest = max(greatest, key_of(value));
  }
  if (count_block(broken) > 0) {
    if (thread < p.code_rows) p.codes[thread * p.code_stride] = -1;
    return;
  }

  const auto token_key = [&](int i) {
    const int v = thread + i * kThreads;
    return v < tokens ? key_of(scaled[v]) : 0u;
  };
  uint32_t threshold = keep <= kThreads ? threshold_of(keep, 1, [&](int) { return greatest; }) : 0u;
  int above = 0;
  for (int i = 0; i < per_thread; ++i) above += count_block(token_key(i) >= threshold && token_key(i) > 0);
  if (above > kMostCandidates) {
    threshold = threshold_of(keep, per_thread, token_key);
  } else {
    for (int i = 0; i < per_thread; ++i) {
      const uint32_t key = token_key(i);
      if (key >= threshold && key > 0) candidates[add_and_get(&candidate_count, 1)] = key;
    }
    sync_block();
    const uint32_t mine = thread < above ? candidates[thread] : 0u;
    threshold = threshold_of(keep, 1, [&](int) { return mine; });
  }

  Best best = {0.0, -1};
  for (int i = 0; i < per_thread; ++i) {
    const uint32_t key = token_key(i);
    if (key < threshold || key == 0) continue;
    const int token = thread + i * kThreads;
    const double score = static_cast<double>(scaled[token]) -
                         log_exponential(p, static_cast<uint32_t>(frame), static_cast<uint32_t>(token));
    best = better(best, {score, token});
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
  p.logits = static_cast<const float*>(logits.data);
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

// A block a song. A search through the upper bits of order-preserving keys among the threads' own maxima, each bit one
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

constexpr int kSongsAtOnce = 32;
template <int kMost>
struct Songs {
  Sampling songs[kMost];
};
static_assert(sizeof(Songs<kSongsAtOnce>) <= 4096);  // what a launch may carry along

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

__device__ inline Best best_of_lanes(Best best) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    best = better(best, {shuffle_xor(best.score, mask), shuffle_xor(best.token, mask)});
  }
  return best;
}

template <int kMost>
__global__ void __launch_bounds__(kThreads) sample_kernel(const __grid_constant__ Songs<kMost> songs) {
  const Sampling& p = songs.songs[blockIdx.x];
  auto* scaled = reinterpret_cast<float*>(dynamic_shared());  // [vocabulary]
  __shared__ int32_t candidates[kMostCandidates];             // tokens
  __shared__ float candidate_values[kMostCandidates];
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
    if (place >= kMostCandidates) continue;
    candidates[place] = thread + i * kThreads;
    candidate_values[place] = scaled[thread + i * kThreads];
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
      for (int i = 0; i < count; ++i) greater += candidate_values[i] > candidate_values[thread] ? 1 : 0;
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
  best = best_of_lanes(best);
  if (thread % kWarp == 0) best_of_warp[thread / kWarp] = best;
  sync_block();
  if (thread >= kWarp) return;
  static_assert(kWarps == kWarp);  // a lane for each
  best = best_of_lanes(best_of_warp[thread]);
  HEARTMULA_KEEP_LOOP
  for (int row = thread; row < p.code_rows; row += kWarp) p.codes[row * p.code_stride] = best.token;
}

Sampling describe(const SongDraw& song, uint32_t codebook) {
  const SamplingSettings& settings = song.rule.settings;
  Sampling p = {};
  p.logits = floats_of(song.logits);
  p.stride = song.logits.stride;
  p.vocabulary = static_cast<int>(song.logits.cols);
  p.frame = static_cast<const int32_t*>(song.frame.data);
  p.codes = static_cast<int32_t*>(song.codes.data);
  p.code_stride = song.codes.stride;
  p.code_rows = static_cast<int>(song.codes.rows);
  p.guidance = settings.guidance > 1.0f ? settings.guidance : 0.0f;
  p.temperature = settings.temperature;
  p.topk = static_cast<int>(std::min<int64_t>(settings.topk, song.logits.cols));
  p.min_frames = song.rule.min_frames;
  p.end_code = song.rule.end_code;
  p.codebook = codebook;
  p.noise = song.noise;
  return p;
}

template <int kMost>
void sample_songs(cudaStream_t stream, std::span<const SongDraw> songs, uint32_t codebook) {
  Songs<kMost> work = {};
  int64_t vocabulary = 0;
  for (size_t i = 0; i < songs.size(); ++i) {
    work.songs[i] = describe(songs[i], codebook);
    vocabulary = std::max(vocabulary, songs[i].logits.cols);
  }
  const dim3 blocks(static_cast<unsigned>(songs.size()));
  launch(stream, {blocks, dim3(kThreads), static_cast<size_t>(vocabulary) * sizeof(float)}, sample_kernel<kMost>, work);
}

}  // namespace

void sample(cudaStream_t stream, std::span<const SongDraw> songs, uint32_t codebook) {
  if (songs.size() == 1) return sample_songs<1>(stream, songs, codebook);
  for (; !songs.empty(); songs = songs.subspan(std::min<size_t>(songs.size(), kSongsAtOnce))) {
    sample_songs<kSongsAtOnce>(stream, songs.first(std::min<size_t>(songs.size(), kSongsAtOnce)), codebook);
  }
}

}  // namespace heartmula::cuda

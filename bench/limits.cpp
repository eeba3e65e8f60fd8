#include "bench/limits.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace heartmula::bench {
namespace {

constexpr int kPasses = 5;

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A loop of `rounds` rounds of multiply-adds in registers named by hand, for compilers spill what they choose
/// themselves; returns the floating-point operations of a round.
using PeakLoop = int (*)(int64_t rounds);

// clang-format off
#define HM_8(op, a, b, t) op " " a "," b "," t "0\n" op " " a "," b "," t "1\n" op " " a "," b "," t "2\n" \
  op " " a "," b "," t "3\n" op " " a "," b "," t "4\n" op " " a "," b "," t "5\n" op " " a "," b "," t "6\n" \
  op " " a "," b "," t "7\n"
#define HM_4(op, a, b, t) op " " a "," b "," t "8\n" op " " a "," b "," t "9\n" op " " a "," b "," t "10\n" \
  op " " a "," b "," t "11\n"
#define HM_12_MORE(op, a, b, t) op " " a "," b "," t "12\n" op " " a "," b "," t "13\n" op " " a "," b "," t "14\n" \
  op " " a "," b "," t "15\n" op " " a "," b "," t "16\n" op " " a "," b "," t "17\n" op " " a "," b "," t "18\n" \
  op " " a "," b "," t "19\n" op " " a "," b "," t "20\n" op " " a "," b "," t "21\n" op " " a "," b "," t "22\n" \
  op " " a "," b "," t "23\n"
// clang-format on

#if defined(__x86_64__)
#define HM_CLOBBERS                                                                                                \
  "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
      "xmm13", "xmm14", "xmm15"

int sse2(int64_t rounds) {  // no multiply-add: a multiplication and an addition
  asm volatile(
      "pxor %%xmm14, %%xmm14\n pxor %%xmm15, %%xmm15\n 1:\n"
      "mulps %%xmm14, %%xmm0\n addps %%xmm15, %%xmm1\n mulps %%xmm14, %%xmm2\n addps %%xmm15, %%xmm3\n"
      "mulps %%xmm14, %%xmm4\n addps %%xmm15, %%xmm5\n mulps %%xmm14, %%xmm6\n addps %%xmm15, %%xmm7\n"
      "mulps %%xmm14, %%xmm8\n addps %%xmm15, %%xmm9\n mulps %%xmm14, %%xmm10\n addps %%xmm15, %%xmm11\n"
      "dec %0\n jnz 1b\n"
      : "+r"(rounds)
      :
      : HM_CLOBBERS);
  return 12 * 4;
}

int avx2(int64_t rounds) {
  asm volatile("vzeroall\n 1:\n" HM_8("vfmadd231ps", "%%ymm14", "%%ymm15", "%%ymm")
                   HM_4("vfmadd231ps", "%%ymm14", "%%ymm15", "%%ymm") "dec %0\n jnz 1b\n vzeroupper\n"
               : "+r"(rounds)
               :
               : HM_CLOBBERS);
  return 12 * 8 * 2;
}

int avx512(int64_t rounds) {
  asm volatile("vzeroall\n vpxord %%zmm30,%%zmm30,%%zmm30\n vpxord %%zmm31,%%zmm31,%%zmm31\n 1:\n" HM_8(
                   "vfmadd231ps", "%%zmm30", "%%zmm31", "%%zmm") HM_4("vfmadd231ps", "%%zmm30", "%%zmm31", "%%zmm")
                   HM_12_MORE("vfmadd231ps", "%%zmm30", "%%zmm31", "%%zmm") "dec %0\n jnz 1b\n vzeroupper\n"
               : "+r"(rounds)
               :
               : HM_CLOBBERS);
  return 24 * 16 * 2;
}

int avx512bf16(int64_t rounds) {
  asm volatile("vzeroall\n vpxord %%zmm30,%%zmm30,%%zmm30\n vpxord %%zmm31,%%zmm31,%%zmm31\n 1:\n" HM_8(
                   "vdpbf16ps", "%%zmm30", "%%zmm31", "%%zmm") HM_4("vdpbf16ps", "%%zmm30", "%%zmm31", "%%zmm")
                   HM_12_MORE("vdpbf16ps", "%%zmm30", "%%zmm31", "%%zmm") "dec %0\n jnz 1b\n vzeroupper\n"
               : "+r"(rounds)
               :
               : HM_CLOBBERS);
  return 24 * 32 * 2;
}

PeakLoop loop_of(const std::string& isa, bool bf16) {
  if (isa == "avx512bf16") return bf16 ? avx512bf16 : avx512;
  if (isa == "avx512") return avx512;
  return isa == "avx2" ? avx2 : sse2;
}
#elif defined(__aarch64__)
#define HM_ARM_4(op, wide, narrow, a, b, c, d)                                                                   \
  op " v" a "." wide ",v30." narrow ",v31." narrow "\n" op " v" b "." wide ",v30." narrow ",v31." narrow "\n" op \
     " v" c "." wide ",v30." narrow ",v31." narrow "\n" op " v" d "." wide ",v30." narrow ",v31." narrow "\n"
#define HM_ARM_24(op, wide, narrow)                  \
  HM_ARM_4(op, wide, narrow, "0", "1", "2", "3")     \
  HM_ARM_4(op, wide, narrow, "4", "5", "6", "7")     \
  HM_ARM_4(op, wide, narrow, "8", "9", "10", "11")   \
  HM_ARM_4(op, wide, narrow, "12", "13", "14", "15") \
  HM_ARM_4(op, wide, narrow, "16", "17", "18", "19") \
  HM_ARM_4(op, wide, narrow, "20", "21", "22", "23")
#define HM_CLOBBERS                                                                                                  \
  "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", \
      "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v30", "v31"

int neon(int64_t rounds) {
  asm volatile("movi v30.4s,#0\n movi v31.4s,#0\n 1:\n" HM_ARM_24("fmla", "4s", "4s") "subs %0,%0,#1\n b.ne 1b\n"
               : "+r"(rounds)
               :
               : HM_CLOBBERS);
  return 24 * 4 * 2;
}

int neonbf16(int64_t rounds) {
  asm volatile(".arch armv8.2-a+bf16\n movi v30.4s,#0\n movi v31.4s,#0\n 1:\n" HM_ARM_24(
                   "bfmmla", "4s", "8h") "subs %0,%0,#1\n b.ne 1b\n"
               : "+r"(rounds)
               :
               : HM_CLOBBERS);
  return 24 * 16 * 2;
}

PeakLoop loop_of(const std::string& isa, bool bf16) {
  return isa == "neonbf16" && bf16 ? neonbf16 : neon;
}
#endif

}  // namespace

double read_gb_s(ThreadPool& pool) {
  constexpr size_t kChunk = size_t{1} << 17;  // words: 1 MB
  constexpr size_t kWords = 512 * kChunk;
  const std::vector<uint64_t> words(kWords, 1);
  double best = 1e30;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::vector<uint64_t> sums(kWords / kChunk);
    best = std::min(best, seconds_of([&] {
                      pool.parallel_for(kWords / kChunk, [&](int64_t chunk, int) {
                        const uint64_t* from = words.data() + static_cast<size_t>(chunk) * kChunk;
                        uint64_t lanes[8] = {};
                        for (size_t i = 0; i < kChunk; i += 8) {
                          for (size_t lane = 0; lane < 8; ++lane) lanes[lane] += from[i + lane];
                        }
                        for (const uint64_t lane : lanes) sums[static_cast<size_t>(chunk)] += lane;
                      });
                    }));
    if (sums[0] != kChunk) return 0;  // the sums are used, so that the reads are not left out
  }
  return static_cast<double>(kWords * sizeof(uint64_t)) / best / 1e9;
}

double peak_gflop_s(ThreadPool& pool, const std::string& isa, bool bf16) {
  const PeakLoop loop = loop_of(isa, bf16);
  constexpr int64_t kRounds = 2'000'000;
  const int flop = loop(1);
  double best = 1e30;
  for (int pass = 0; pass < kPasses; ++pass) {
    best = std::min(best, seconds_of([&] { pool.parallel_for(pool.threads(), [&](int64_t, int) { loop(kRounds); }); }));
  }
  return static_cast<double>(flop) * static_cast<double>(kRounds * pool.threads()) / best / 1e9;
}

}  // namespace heartmula::bench

// The ceilings of this instruction set: multiply-adds on registers alone, and reads from memory.
//
// The multiply-adds are assembly on named accumulators, for compilers may spill an array of them and then show a third
// of the true peak. Twelve or 24 chains hide the latency of the instruction on every core that we know.
#include "cpu/kernels/simd.h"

HWY_BEFORE_NAMESPACE();
namespace heartmula::cpu::HEARTMULA_KERNELS {
namespace {

// Twelve sums += x * x by one instruction each; LINE(instruction, n) is the text for sum n, x being operand 12.
#define HEARTMULA_TWELVE(LINE, instruction, constraint, a, x)                                                \
  asm volatile(LINE(instruction, 0) LINE(instruction, 1) LINE(instruction, 2) LINE(instruction, 3)           \
                   LINE(instruction, 4) LINE(instruction, 5) LINE(instruction, 6) LINE(instruction, 7)       \
                       LINE(instruction, 8) LINE(instruction, 9) LINE(instruction, 10) LINE(instruction, 11) \
               : "+" constraint(a##0), "+" constraint(a##1), "+" constraint(a##2), "+" constraint(a##3),     \
                 "+" constraint(a##4), "+" constraint(a##5), "+" constraint(a##6), "+" constraint(a##7),     \
                 "+" constraint(a##8), "+" constraint(a##9), "+" constraint(a##10), "+" constraint(a##11)    \
               : constraint(x))
#define HEARTMULA_TWELVE_SUMS(a, x)                                                                                   \
  auto a##0 = x, a##1 = x, a##2 = x, a##3 = x, a##4 = x, a##5 = x, a##6 = x, a##7 = x, a##8 = x, a##9 = x, a##10 = x, \
       a##11 = x

#if defined(__AVX512F__) || defined(__FMA__)
#if defined(__AVX512F__)
#define HEARTMULA_REGISTER "v"
#else
#define HEARTMULA_REGISTER "x"
#endif
#define HEARTMULA_F32_LINE(instruction, n) instruction " %12, %12, %" #n "\n\t"
#define HEARTMULA_BF16_LINE HEARTMULA_F32_LINE
#define HEARTMULA_F32 "vfmadd231ps"
#define HEARTMULA_BF16 "vdpbf16ps"
#elif HWY_ARCH_ARM
#define HEARTMULA_REGISTER "w"
#define HEARTMULA_F32_LINE(instruction, n) instruction " %" #n ".4s, %12.4s, %12.4s\n\t"
#define HEARTMULA_BF16_LINE(instruction, n) instruction " %" #n ".4s, %12.8h, %12.8h\n\t"
#define HEARTMULA_F32 "fmla"
#define HEARTMULA_BF16 "bfmmla"
#endif

constexpr bool kManyRegisters = HWY_ARCH_ARM || kLanes == 16;
constexpr double kChains = kManyRegisters ? 24 : 12;

#if defined(HEARTMULA_REGISTER)

#define HEARTMULA_LOOP(LINE, instruction, x)                         \
  HEARTMULA_TWELVE_SUMS(a, x);                                       \
  HEARTMULA_TWELVE_SUMS(b, x);                                       \
  for (int64_t i = 0; i < steps; ++i) {                              \
    HEARTMULA_TWELVE(LINE, instruction, HEARTMULA_REGISTER, a, x);   \
    if constexpr (kManyRegisters) {                                  \
      HEARTMULA_TWELVE(LINE, instruction, HEARTMULA_REGISTER, b, x); \
    }                                                                \
  }

void multiply_add_steps(int64_t steps) {
  const auto x = set(0.5F).raw;
  HEARTMULA_LOOP(HEARTMULA_F32_LINE, HEARTMULA_F32, x)
}

#else

// Volatile on both sides, so that the compiler neither knows the sums nor drops them.
void multiply_add_steps(int64_t steps) {
  volatile float half = 0.5F;
  const F x = set(half);
  HEARTMULA_TWELVE_SUMS(a, x);
  const auto sums = {&a0, &a1, &a2, &a3, &a4, &a5, &a6, &a7, &a8, &a9, &a10, &a11};
  for (int64_t i = 0; i < steps; ++i) {
    for (F* sum : sums) *sum = hn::MulAdd(x, x, *sum);
  }
  F all = zero();
  for (const F* sum : sums) all = hn::Add(all, *sum);
  volatile float sink = sum_lanes(all);
  static_cast<void>(sink);
}

#endif

}  // namespace

double multiply_add_f32(int64_t steps) {
  multiply_add_steps(steps);
  return 2.0 * kLanes * kChains * static_cast<double>(steps);
}

double multiply_add_bf16(int64_t steps) {
#if HEARTMULA_BF16_DOT
  const auto x = set(0.5F).raw;
  HEARTMULA_LOOP(HEARTMULA_BF16_LINE, HEARTMULA_BF16, x)
  constexpr double kProducts = HWY_ARCH_ARM ? 4 : 2;  // of one 32-bit lane
  return 2.0 * kLanes * kProducts * kChains * static_cast<double>(steps);
#else
  return multiply_add_f32(steps);  // bf16 is widened
#endif
}

uint32_t read(const void* data, int64_t bytes) {
  constexpr int kSums = 8;
  constexpr int64_t kStep = kSums * kLanes;
  const uint32_t* words = static_cast<const uint32_t*>(data);
  const int64_t count = bytes / int64_t{sizeof(uint32_t)};
  U sums[kSums];
  HWY_UNROLL(8)
  for (int s = 0; s < kSums; ++s) sums[s] = hn::Zero(DU());
  for (int64_t i = 0; i + kStep <= count; i += kStep) {
    HWY_UNROLL(8)
    for (int s = 0; s < kSums; ++s) sums[s] = hn::Xor(sums[s], load(words + i + s * kLanes));
  }
  for (int s = 1; s < kSums; ++s) sums[0] = hn::Xor(sums[0], sums[s]);
  HWY_ALIGN uint32_t lanes[kLanes];
  hn::Store(sums[0], DU(), lanes);
  uint32_t all = 0;
  for (const uint32_t lane : lanes) all ^= lane;
  for (int64_t i = count / kStep * kStep; i < count; ++i) all ^= words[i];
  return all;
}

}  // namespace heartmula::cpu::HEARTMULA_KERNELS
HWY_AFTER_NAMESPACE();

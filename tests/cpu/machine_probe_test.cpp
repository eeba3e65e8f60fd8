// The ceilings: what is read is read whole, and every figure is one. How large it is depends on the machine.
#include "cpu/machine_probe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "cpu/isa.h"

namespace heartmula {
namespace {

TEST(MachineProbe, reading_touches_every_word_once) {
  std::mt19937 generator(1);
  for (const std::string& isa : available_isas()) {
    for (const size_t words : {0, 1, 63, 64, 127, 128, 129, 1000}) {
      std::vector<uint32_t> data(words);
      uint32_t expected = 0;
      for (uint32_t& word : data) expected ^= word = static_cast<uint32_t>(generator());
      const auto bytes = static_cast<int64_t>(words * sizeof(uint32_t));
      EXPECT_EQ(cpu::choose_isa(isa).kernels->read(data.data(), bytes), expected) << isa << " " << words;
    }
  }
}

TEST(MachineProbe, gives_a_rate_for_every_instruction_set) {
  for (const std::string& isa : available_isas()) {
    MachineProbe probe({.threads = 2, .isa = isa}, 8 << 20);
    EXPECT_EQ(probe.isa(), isa);
    EXPECT_EQ(probe.threads(), 2);
    for (const double rate :
         {probe.read_bytes_per_second(), probe.f32_flop_per_second(), probe.bf16_flop_per_second()}) {
      EXPECT_TRUE(std::isfinite(rate) && rate > 1e6) << isa << " " << rate;
    }
  }
}

}  // namespace
}  // namespace heartmula

#include <gtest/gtest.h>

#include "codec/testing.h"

namespace heartmula {
namespace {

CodecConfig with(std::vector<int64_t> factors, int64_t repeats, int64_t delay, int64_t kernel, int64_t res_kernel) {
  CodecConfig config = small_codec();
  config.upsample_factors = std::move(factors);
  config.num_samples = repeats;
  config.delay_kernel = delay;
  config.kernel = kernel;
  config.res_kernel = res_kernel;
  return config;
}

/// Not near an edge between two levels, where rounding decides.
oracle::Array some_latents(const CodecConfig& config, int64_t frames, uint32_t seed) {
  oracle::Array latents = normal_array(frames, config.latent_dim, seed, 0.7);
  for (double& value : latents.values) {
    const double level = std::nearbyint(9 * value);
    value = static_cast<float>((level + 0.4 * (9 * value - level)) / 9);
  }
  return latents;
}

/// Buffers and history of one channel.
struct Channel {
  std::shared_ptr<WaveDecoder::Buffers> buffers;
  std::shared_ptr<WaveDecoder::History> history;
};

Channel new_channel(Ops& ops, const WaveDecoder& decoder, int64_t frames) {
  return {decoder.make_buffers(ops, frames), decoder.make_history(ops)};
}

/// `chunk` latents at a time.
std::vector<float> run(Ops& ops, const WaveDecoder& decoder, const oracle::Array& latents, const Channel& channel,
                       int64_t chunk) {
  const Tensor all = uploaded(ops, latents);
  std::vector<float> samples;
  for (int64_t first = 0; first < latents.rows; first += chunk) {
    const ConstView next = all.slice_rows(first, std::min(chunk, latents.rows - first));
    if (first + chunk < latents.rows) {
      decoder.push(ops, samples, next, *channel.buffers, *channel.history);
    } else {
      decoder.finish(ops, samples, next, *channel.buffers, *channel.history);
    }
  }
  return samples;
}

std::vector<float> run(Ops& ops, const WaveDecoder& decoder, const oracle::Array& latents) {
  return run(ops, decoder, latents, new_channel(ops, decoder, latents.rows), latents.rows);
}

TEST(WaveDecoder, samples_are_those_of_float64) {
  const CodecConfig configs[] = {
      small_codec(),
      with({5, 4, 4, 4, 3}, 2, 5, 7, 7),  // as released
      with({1, 1, 1, 1, 7}, 1, 1, 1, 1),
      with({3, 1, 2, 1, 1}, 4, 7, 2, 9),
  };
  for (const CodecConfig& config : configs) {
    const auto checkpoint = random_codec(config, 10);
    const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
    const WaveDecoder decoder = WaveDecoder::load(*ops, checkpoint->store(), config, DType::kF32);
    const std::vector<int64_t> lengths =
        config.samples_per_latent() > 100 ? std::vector<int64_t>{2} : std::vector<int64_t>{1, 2, 3, 23};
    for (const int64_t frames : lengths) {
      const oracle::Array latents = some_latents(config, frames, 11);
      EXPECT_LT(relative_distance(run(*ops, decoder, latents), oracle::wave(*checkpoint, config, latents)), 1e-5)
          << config.samples_per_latent() << " samples a frame, " << frames << " frames";
    }
  }
}

TEST(WaveDecoder, samples_do_not_depend_on_the_tiles) {
  const CodecConfig config = small_codec();
  const auto checkpoint = random_codec(config, 12);
  const oracle::Array latents = some_latents(config, 30, 13);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int threads : {1, 3}) {
      const auto ops = make_cpu_ops({.threads = threads, .isa = {}});
      const WaveDecoder decoder = WaveDecoder::load(*ops, checkpoint->store(), config, dtype);
      const std::vector<float> expected = run(*ops, decoder, latents);
      for (const int64_t tile : {1, 2, 3, 7, 50, 100'000}) {
        const Channel channel{decoder.make_buffers(*ops, 30, tile), decoder.make_history(*ops)};
        EXPECT_TRUE(testing_cpu::same_bits(run(*ops, decoder, latents, channel, 30), expected)) << "tiles of " << tile;
      }
    }
  }
}

TEST(WaveDecoder, samples_do_not_depend_on_how_latents_come) {
  for (const CodecConfig& config :
       {small_codec(), with({3, 1, 2, 1, 1}, 4, 7, 2, 9), with({1, 1, 1, 1, 7}, 1, 1, 1, 1)}) {
    const auto checkpoint = random_codec(config, 21);
    const oracle::Array latents = some_latents(config, 43, 22);
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
      const WaveDecoder decoder = WaveDecoder::load(*ops, checkpoint->store(), config, dtype);
      const std::vector<float> expected = run(*ops, decoder, latents);
      for (const int64_t chunk : {1, 2, 5, 40}) {
        EXPECT_TRUE(
            testing_cpu::same_bits(run(*ops, decoder, latents, new_channel(*ops, decoder, chunk), chunk), expected))
            << chunk << " latents at a time";
      }
    }
  }
}

TEST(WaveDecoder, samples_are_final_two_latents_later) {
  const CodecConfig config = with({2, 3, 2, 1, 2}, 3, 5, 5, 4);
  const auto checkpoint = random_codec(config, 23);
  const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
  const WaveDecoder decoder = WaveDecoder::load(*ops, checkpoint->store(), config, DType::kF32);
  const Channel channel = new_channel(*ops, decoder, 9);
  const Tensor latents = uploaded(*ops, some_latents(config, 9, 24));
  std::vector<float> samples;
  const auto frames = [&] { return static_cast<int64_t>(samples.size()) / config.samples_per_latent(); };
  decoder.push(*ops, samples, latents.slice_rows(0, 1), *channel.buffers, *channel.history);
  EXPECT_EQ(frames(), 0);
  decoder.push(*ops, samples, latents.slice_rows(1, 4), *channel.buffers, *channel.history);
  EXPECT_EQ(frames(), 3);
  decoder.push(*ops, samples, latents.slice_rows(5, 4), *channel.buffers, *channel.history);
  EXPECT_EQ(frames(), 7);
  decoder.finish(*ops, samples, {}, *channel.buffers, *channel.history);
  EXPECT_EQ(frames(), 9);
}

TEST(WaveDecoder, channels_that_share_buffers_do_not_hear_each_other) {
  const CodecConfig config = small_codec();
  const auto checkpoint = random_codec(config, 14);
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const WaveDecoder decoder = WaveDecoder::load(*ops, checkpoint->store(), config, dtype);
    const oracle::Array latents[] = {some_latents(config, 12, 15), some_latents(config, 12, 16)};
    const auto buffers = decoder.make_buffers(*ops, 4);
    const Channel channels[] = {{buffers, decoder.make_history(*ops)}, {buffers, decoder.make_history(*ops)}};
    for (int round = 0; round < 2; ++round) {  // a channel that was finished begins anew
      std::vector<float> samples[2];
      for (int64_t first = 0; first < 12; first += 4) {
        for (size_t i = 0; i < 2; ++i) {
          const Tensor all = uploaded(*ops, latents[i]);
          decoder.push(*ops, samples[i], all.slice_rows(first, 4), *buffers, *channels[i].history);
        }
      }
      for (size_t i = 0; i < 2; ++i) {
        decoder.finish(*ops, samples[i], {}, *buffers, *channels[i].history);
        EXPECT_TRUE(testing_cpu::same_bits(samples[i], run(*ops, decoder, latents[i])));
      }
    }
  }
}

TEST(WaveDecoder, is_causal_but_for_two_frames) {
  const CodecConfig config = with({2, 3, 2, 1, 2}, 3, 5, 7, 7);
  const auto checkpoint = random_codec(config, 17);
  const auto ops = make_cpu_ops({.threads = 2, .isa = {}});
  const WaveDecoder decoder = WaveDecoder::load(*ops, checkpoint->store(), config, DType::kF32);
  oracle::Array latents = some_latents(config, 12, 18);
  const std::vector<float> before = run(*ops, decoder, latents);
  for (int64_t c = 0; c < latents.cols; ++c) latents.at(8, c) += 1;
  const std::vector<float> after = run(*ops, decoder, latents);
  const size_t first_touched = static_cast<size_t>((8 - 2) * config.samples_per_latent());
  const auto [a, b] = std::mismatch(before.begin(), before.end(), after.begin());
  EXPECT_EQ(static_cast<size_t>(a - before.begin()) / static_cast<size_t>(config.samples_per_latent()), size_t{6});
  EXPECT_GE(static_cast<size_t>(a - before.begin()), first_touched);
}

TEST(WaveDecoder, the_older_spelling_of_weight_norm_is_the_same) {
  const CodecConfig config = small_codec();
  const auto checkpoint = random_codec(config, 19);
  std::vector<TensorToWrite> tensors;
  for (const ExpectedTensor& expected : WaveDecoder::expected_tensors(config, checkpoint->store())) {
    const StoredTensor& tensor = checkpoint->store().get(expected.name);
    std::string name = tensor.name;
    for (const auto& [modern, older] :
         {std::pair<std::string, std::string>("parametrizations.weight.original0", "weight_g"),
          {"parametrizations.weight.original1", "weight_v"}}) {
      if (const size_t at = name.find(modern); at != std::string::npos) name.replace(at, modern.size(), older);
    }
    tensors.push_back({name, tensor.dtype, tensor.shape, tensor.data});
  }
  const TemporaryFolder folder;
  const std::vector<std::byte> bytes = encode_safetensors(tensors, {});
  const WeightStore older =
      WeightStore::open(folder.write("older.safetensors", {reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  older.require(WaveDecoder::expected_tensors(config, older), "config.json");

  const auto ops = make_cpu_ops({.threads = 1, .isa = {}});
  const WaveDecoder decoder = WaveDecoder::load(*ops, checkpoint->store(), config, DType::kF32);
  const WaveDecoder other = WaveDecoder::load(*ops, older, config, DType::kF32);
  const oracle::Array latents = some_latents(config, 3, 20);
  EXPECT_EQ(run(*ops, other, latents), run(*ops, decoder, latents));
}

TEST(WaveDecoder, latents_are_rounded_to_ninths_half_to_even) {
  EXPECT_EQ(WaveDecoder::level(0.5f), 4.0f / 9.0f);  // 4.5
  EXPECT_EQ(WaveDecoder::level(-0.5f), -4.0f / 9.0f);
  EXPECT_EQ(WaveDecoder::level(1.5f), 14.0f / 9.0f);  // 13.5, beyond 1 and not clamped
  EXPECT_EQ(WaveDecoder::level(0.06f), 1.0f / 9.0f);
  EXPECT_EQ(WaveDecoder::level(0.05f), 0.0f);
}

}  // namespace
}  // namespace heartmula

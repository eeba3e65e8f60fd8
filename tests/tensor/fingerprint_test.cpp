#include "tensor/fingerprint.h"

#include <gmock/gmock.h>

#include <set>

#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = R"({"a": 1, "b": 2})";

std::string file_of(const std::vector<TensorToWrite>& tensors) {
  const std::vector<std::byte> bytes = encode_safetensors(tensors, {});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Two tensors, 10 000 bytes and 16 bytes.
struct Weights {
  std::string large = std::string(10'000, 'l');
  std::string small = std::string(16, 's');
  DType dtype = DType::kF32;

  TensorToWrite first() const { return {"x.large", DType::kF32, {2500}, std::as_bytes(std::span(large))}; }
  TensorToWrite second() const {
    return {"x.small", dtype, dtype == DType::kF32 ? std::vector<int64_t>{2, 2} : std::vector<int64_t>{2, 4},
            std::as_bytes(std::span(small))};
  }
};

std::string fingerprint_of(const Weights& weights, const char* config = kConfig) {
  const TemporaryFolder folder;
  folder.write("config.json", config);
  folder.write("model.safetensors", file_of({weights.first(), weights.second()}));
  const std::string result = model_fingerprint(folder.path());
  EXPECT_TRUE(is_fingerprint(result)) << result;
  EXPECT_EQ(fingerprint(config, WeightStore::open(folder.path())), result);
  return result;
}

TEST(Fingerprint, is_the_same_however_the_weights_are_cut_into_files) {
  const Weights weights;
  const TemporaryFolder sharded;
  sharded.write("config.json", "{\n  \"b\": 2,\n  \"a\": 1\n}\n");
  sharded.write("model-1.safetensors", file_of({weights.second()}));
  sharded.write("model-2.safetensors", file_of({weights.first()}));
  sharded.write("model.safetensors.index.json",
                R"({"weight_map": {"x.large": "model-2.safetensors", "x.small": "model-1.safetensors"}})");
  EXPECT_EQ(model_fingerprint(sharded.path()), fingerprint_of(weights));
}

TEST(Fingerprint, never_changes_from_one_release_to_the_next) {
  EXPECT_EQ(fingerprint_of({}), "a5bb2239e0110700");
}

TEST(Fingerprint, differs_with_whatever_makes_another_model) {
  std::set<std::string> seen = {fingerprint_of({})};
  const auto expect_new = [&seen](const std::string& one) { EXPECT_TRUE(seen.insert(one).second) << one; };
  expect_new(fingerprint_of({}, R"({"a": 1, "b": 3})"));
  for (const size_t place : {0u, 63u, 5000u, 9999u}) {
    Weights other;
    other.large[place] = 'x';
    expect_new(fingerprint_of(other));
  }
  for (const size_t place : {0u, 7u, 15u}) {
    Weights other;
    other.small[place] = 'x';
    expect_new(fingerprint_of(other));
  }
  Weights other;
  other.dtype = DType::kBF16;
  expect_new(fingerprint_of(other));
}

TEST(Fingerprint, asks_for_a_config_and_weights) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { model_fingerprint(folder.path()); }), testing::HasSubstr("config.json"));
  folder.write("config.json", kConfig);
  EXPECT_THAT(error_of(ErrorKind::kUser, [&] { model_fingerprint(folder.path()); }), testing::HasSubstr("safetensors"));
}

TEST(IsFingerprint, sixteen_hexadecimal_digits) {
  EXPECT_TRUE(is_fingerprint("0123456789abcdef"));
  for (const char* text : {"", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcde\n"}) {
    EXPECT_FALSE(is_fingerprint(text)) << text;
  }
}

}  // namespace
}  // namespace heartmula

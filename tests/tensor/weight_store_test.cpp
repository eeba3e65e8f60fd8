#include "tensor/weight_store.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "base/testing.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kIndex = "model.safetensors.index.json";

/// A folder in which a checkpoint is put together.
class Checkpoint : public TemporaryFolder {
 public:
  /// A file with tensors of these names, filled with one byte.
  fs::path write_tensors(std::string_view file, const std::vector<std::string>& names,
                         const std::vector<int64_t>& shape = {2, 3}, DType dtype = DType::kF32,
                         std::byte fill = std::byte{1}) const {
    std::vector<TensorToWrite> tensors;
    size_t bytes = dtype_size(dtype);
    for (const int64_t dimension : shape) bytes *= static_cast<size_t>(dimension);
    const std::vector<std::byte> data(bytes, fill);
    for (const std::string& name : names) tensors.push_back({name, dtype, shape, data});
    const std::vector<std::byte> encoded = encode_safetensors(tensors, {});
    return write(file, {reinterpret_cast<const char*>(encoded.data()), encoded.size()});
  }

  std::string open_error(std::string_view name = "") const {
    return error_of(ErrorKind::kUser, [&] { WeightStore::open(name.empty() ? path() : path() / name); });
  }
};

TEST(WeightStore, opens_one_file_in_a_folder_or_by_its_name) {
  const Checkpoint folder;
  folder.write_tensors("model.safetensors", {"b", "a"});
  for (const fs::path& path : {folder.path(), folder / "model.safetensors"}) {
    const WeightStore store = WeightStore::open(path);
    EXPECT_EQ(store.path(), path);
    EXPECT_EQ(store.files().size(), 1u);
    EXPECT_TRUE(store.contains("a"));
    EXPECT_FALSE(store.contains("c"));
    EXPECT_EQ(store.get("b").name, "b");
    EXPECT_EQ(store.total_bytes(), 48);
    EXPECT_EQ(store.total_elements(), 12);
    store.release(store.get("b"));
  }
}

TEST(WeightStore, opens_the_only_file_of_another_name) {
  const Checkpoint folder;
  folder.write("config.json", "{}");
  folder.write_tensors("codec.safetensors", {"a"});
  EXPECT_TRUE(WeightStore::open(folder.path()).contains("a"));
  folder.write_tensors("other.safetensors", {"b"});
  EXPECT_THAT(folder.open_error(), HasSubstr("several .safetensors files where one would do"));
  folder.write_tensors("model.safetensors", {"c"});
  EXPECT_TRUE(WeightStore::open(folder.path()).contains("c"));
}

TEST(WeightStore, opens_shards_through_their_index) {
  const Checkpoint folder;
  folder.write_tensors("model-1.safetensors", {"d", "a", "extra"});
  folder.write_tensors("model-2.safetensors", {"b", "a"}, {4}, DType::kBF16);
  folder.write(kIndex, R"({"metadata": {"total_size": 1}, "weight_map": {"b": "model-2.safetensors",
      "a": "model-1.safetensors", "d": "model-1.safetensors"}})");
  for (const fs::path& path : {folder.path(), folder / kIndex}) {
    const WeightStore store = WeightStore::open(path);
    EXPECT_EQ(store.files().size(), 2u);
    EXPECT_EQ(store.get("a").dtype, DType::kF32) << "the index says which of the two";
    EXPECT_EQ(store.get("b").shape, std::vector<int64_t>{4});
    EXPECT_FALSE(store.contains("extra"));
    EXPECT_THAT(store.unused(), ElementsAre("d"));
    EXPECT_EQ(store.total_elements(), 6 + 6 + 4);
    EXPECT_EQ(store.total_bytes(), 24 + 24 + 8);
  }
}

TEST(WeightStore, follows_symbolic_links_to_shards) {  // as the hub's cache lays them out
  const Checkpoint folder;
  folder.write_tensors("blobs/0123", {"a"});
  folder.write("snapshot/model.safetensors.index.json", R"({"weight_map": {"a": "model-1.safetensors"}})");
  fs::create_symlink("../blobs/0123", folder / "snapshot/model-1.safetensors");
  EXPECT_TRUE(WeightStore::open(folder / "snapshot").contains("a"));
}

TEST(WeightStore, says_what_was_looked_for) {
  const Checkpoint folder;
  EXPECT_EQ(folder.open_error("missing"), (folder / "missing").string() + ": no such file or folder");
  EXPECT_EQ(folder.open_error(), folder.path().string() +
                                     ": found neither model.safetensors.index.json nor model.safetensors, and no "
                                     ".safetensors files where one would do; is the download complete?");
  fs::create_directory(folder / "model.safetensors");
  EXPECT_THAT(folder.open_error(), HasSubstr("is a folder"));
}

TEST(WeightStore, a_missing_or_broken_shard_is_named) {
  const Checkpoint folder;
  folder.write(kIndex, R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  folder.write_tensors("model-1.safetensors", {"a"});
  EXPECT_EQ(folder.open_error(),
            (folder / "model-2.safetensors").string() +
                ": no such file, but model.safetensors.index.json names it; is the download complete?");
  const fs::path shard = folder.write_tensors("model-2.safetensors", {"c"});
  EXPECT_EQ(folder.open_error(),
            shard.string() + ": lacks the tensor \"b\", which model.safetensors.index.json promises");
  folder.write_tensors("model-2.safetensors", {"b"});
  fs::resize_file(shard, fs::file_size(shard) - 1);
  EXPECT_THAT(folder.open_error(), StartsWith(shard.string() + ": truncated"));
}

TEST(WeightStore, refuses_hostile_shard_names) {
  const Checkpoint folder;
  folder.write_tensors("outside.safetensors", {"a"});
  fs::create_directory(folder / "inside");
  for (const std::string shard :
       {R"("../outside.safetensors")", R"("/etc/passwd")", R"("..")", R"("")", R"("sub/x.safetensors")",
        R"("sub\\x.safetensors")", R"("x\u0000.safetensors")", R"("config.json")", R"(".safetensors")", "7", "null"}) {
    folder.write(fmt::format("inside/{}", kIndex), fmt::format(R"({{"weight_map": {{"a": {}}}}})", shard));
    const std::string message = folder.open_error("inside");
    EXPECT_THAT(message, HasSubstr("is not the name of a .safetensors file beside it"));
    EXPECT_THAT(message, StartsWith((folder / "inside").string()));
  }
}

TEST(WeightStore, refuses_broken_indexes) {
  const Checkpoint folder;
  const auto error_with_index = [&](std::string_view index) {
    folder.write(kIndex, index);
    const std::string message = folder.open_error();
    EXPECT_THAT(message, StartsWith((folder / kIndex).string() + ": "));
    return message;
  };
  EXPECT_THAT(error_with_index(""), HasSubstr("is empty, not JSON"));
  EXPECT_THAT(error_with_index("{"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_with_index("[]"), HasSubstr("JSON object"));
  EXPECT_THAT(error_with_index("{}"), HasSubstr("no object weight_map"));
  EXPECT_THAT(error_with_index(R"({"weight_map": []})"), HasSubstr("no object weight_map"));
  EXPECT_THAT(error_with_index(R"({"weight_map": {}})"), HasSubstr("names no tensor"));
  EXPECT_THAT(error_with_index(R"({"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}})"),
              HasSubstr("two entries \"a\""));
  EXPECT_THAT(error_with_index(std::string(R"({"weight_map": )").append(1'000'000, '[')), HasSubstr("deep"));
}

TEST(WeightStore, get_names_what_is_missing) {
  const Checkpoint folder;
  folder.write_tensors("model.safetensors", {"a"});
  const WeightStore store = WeightStore::open(folder.path());
  EXPECT_EQ(error_of(ErrorKind::kUser, [&] { store.get("b"); }), folder.path().string() + ": tensor b is missing");
}

TEST(WeightStore, require_lists_what_is_missing) {
  const Checkpoint folder;
  folder.write_tensors("model.safetensors", {"a"});
  const WeightStore store = WeightStore::open(folder.path());
  EXPECT_EQ(error_of(ErrorKind::kUser,
                     [&] {
                       store.require({{"x", {1}}, {"a", {9}}, {"y", {1}}}, "config.json");
                     }),
            folder.path().string() + ": 2 tensors that config.json asks for are missing: x, y");
  std::vector<ExpectedTensor> many;
  for (int i = 10; i < 25; ++i) many.push_back({fmt::format("t{}", i), {1}});
  const std::string message = error_of(ErrorKind::kUser, [&] { store.require(many, "config.json"); });
  EXPECT_THAT(message, HasSubstr("15 tensors"));
  EXPECT_THAT(message, HasSubstr("t10, t11, t12, t13, t14, t15, t16, t17, t18, t19 and 5 more"));
  EXPECT_THAT(message, Not(HasSubstr("t20")));
  EXPECT_THAT(store.unused(), ElementsAre("a"));
}

TEST(WeightStore, require_checks_shape_and_dtype) {
  const Checkpoint folder;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    folder.write_tensors("model.safetensors", {"a", "b"}, {2, 3}, dtype);
    const WeightStore store = WeightStore::open(folder.path());
    store.require({{"a", {2, 3}}}, "config.json");
    EXPECT_THAT(store.unused(), ElementsAre("b"));
  }
  const WeightStore store = WeightStore::open(folder.path());
  EXPECT_EQ(error_of(ErrorKind::kUser,
                     [&] {
                       store.require({{"a", {2, 3}}, {"b", {3, 2}}}, "x/config.json");
                     }),
            "x/config.json: asks for b of shape [3, 2], but it is [2, 3] in " +
                (folder / "model.safetensors").string() + "; is this config from another checkpoint?");
  folder.write_tensors("model.safetensors", {"a"}, {2, 3}, DType::kI32);
  const WeightStore integers = WeightStore::open(folder.path());
  EXPECT_EQ(error_of(ErrorKind::kUser,
                     [&] {
                       integers.require({{"a", {2, 3}}}, "config.json");
                     }),
            (folder / "model.safetensors").string() + ": tensor a has the dtype I32; F32, BF16 and F16 are supported");
}

TEST(WeightStore, require_refuses_weights_that_cannot_be) {
  const Checkpoint folder;
  folder.write_tensors("model-1.safetensors", {"a.weight"});
  folder.write_tensors("model-2.safetensors", {"b.weight", "b.bias"}, {100, 300}, DType::kF32, std::byte{0});
  folder.write_tensors("model-3.safetensors", {"slope.weight"}, {1}, DType::kF32, std::byte{0});
  folder.write_tensors("model-4.safetensors", {"c.weight"}, {2}, DType::kBF16, std::byte{0xFF});
  folder.write(kIndex, R"({"weight_map": {"a.weight": "model-1.safetensors", "b.weight": "model-2.safetensors",
      "b.bias": "model-2.safetensors", "slope.weight": "model-3.safetensors", "c.weight": "model-4.safetensors"}})");
  const WeightStore store = WeightStore::open(folder.path());
  store.require({{"a.weight", {2, 3}}, {"b.bias", {100, 300}}, {"slope.weight", {1}}}, "config.json");
  const auto refusal = [&](const ExpectedTensor& tensor) {
    return error_of(ErrorKind::kUser, [&] { store.require({tensor}, "config.json"); });
  };
  EXPECT_THAT(refusal({"b.weight", {100, 300}}),
              StartsWith((folder / "model-2.safetensors").string() + ": tensor b.weight is all zeros"));
  EXPECT_THAT(refusal({"c.weight", {2}}),
              StartsWith((folder / "model-4.safetensors").string() + ": tensor c.weight holds values"));
}

TEST(WeightStore, names_a_download_that_has_not_ended) {
  const Checkpoint folder;
  folder.write("model-2.safetensors.incomplete", "");
  EXPECT_THAT(folder.open_error(), HasSubstr("model-2.safetensors.incomplete says that a download has not ended"));
  folder.write(kIndex, R"({"weight_map": {"a": "model-2.safetensors"}})");
  EXPECT_THAT(folder.open_error(), HasSubstr("model-2.safetensors.incomplete says that a download has not ended"));
  folder.write_tensors("model-2.safetensors", {"a"});
  EXPECT_THAT(folder.open_error(), HasSubstr("its download has not ended"));
}

}  // namespace
}  // namespace heartmula

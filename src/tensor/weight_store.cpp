#include "tensor/weight_store.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/json_fields.h"
#include "tensor/tensor_check.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";
constexpr size_t kMaxNamesInMessage = 10;

/// A shard lies beside its index, whatever the index says.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.ends_with(".safetensors") &&
         std::ranges::none_of(name, [](unsigned char c) { return c == '/' || c == '\\' || c < ' '; });
}

/// Tensor name to shard name.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const Json index = read_json_object(path);
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw user_error("{}: has no object weight_map", path.string());
  }
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!shard.is_string() || !is_plain_file_name(shard.get_ref<const std::string&>())) {
      throw user_error("{}: tensor {} is said to be in {}, which is not the name of a .safetensors file beside it",
                       path.string(), in_quotes(tensor), shortened(shard.dump(), 120));
    }
    shards.emplace_hint(shards.end(), tensor, shard.get<std::string>());
  }
  if (shards.empty()) throw user_error("{}: weight_map names no tensor", path.string());
  return shards;
}

/// The index or the one file that holds the weights of a folder.
fs::path find_weights(const fs::path& folder) {
  for (const char* name : {kIndexName, kSingleName}) {
    std::error_code ignored;
    if (fs::exists(folder / name, ignored)) return folder / name;
  }
  std::vector<fs::path> candidates;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") candidates.push_back(entry->path());
  }
  if (error) throw user_error("{}: cannot be read: {}", folder.string(), error.message());
  if (candidates.size() == 1) return candidates.front();
  throw user_error(
      "{}: found neither {} nor {}, and {} .safetensors files where one would do; is the download complete?{}",
      folder.string(), kIndexName, kSingleName, candidates.empty() ? "no" : "several", download_hint(folder));
}

bool is_index(const fs::path& path) {
  return path.filename().string().ends_with(".index.json");
}

/// Biases and single numbers (slopes) of good checkpoints may be.
bool may_be_zero(const StoredTensor& tensor) {
  return tensor.name.ends_with("bias") || tensor.elements() == 1;
}

bool is_floating_point(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

}  // namespace

WeightStore WeightStore::open(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) throw user_error("{}: no such file or folder", path.string());

  const fs::path weights = fs::is_directory(status) ? find_weights(path) : path;
  if (!is_index(weights)) {
    WeightStore store = of(SafetensorsFile::open(weights));
    store.path_ = path;
    return store;
  }
  WeightStore store;
  store.path_ = path;

  std::map<std::string, size_t> file_of_shard;
  for (const auto& [tensor, shard] : read_index(weights)) {
    auto [place, is_new] = file_of_shard.try_emplace(shard, store.files_.size());
    const size_t file = place->second;
    if (is_new) {
      const fs::path shard_path = weights.parent_path() / shard;
      if (!fs::exists(shard_path, error)) {
        throw user_error("{}: no such file, but {} names it; is the download complete?{}", shard_path.string(),
                         weights.filename().string(), download_hint(shard_path.parent_path()));
      }
      store.files_.push_back(SafetensorsFile::open(shard_path));
    }
    const StoredTensor* found = store.files_[file].find(tensor);
    if (found == nullptr) {
      throw user_error("{}: lacks the tensor {}, which {} promises", store.files_[file].name(), in_quotes(tensor),
                       weights.filename().string());
    }
    const auto place_in_file = static_cast<size_t>(found - store.files_[file].tensors().data());
    store.entries_.push_back({tensor, {file, place_in_file}});
  }
  return store;
}

WeightStore WeightStore::of(SafetensorsFile file) {
  WeightStore store;
  store.path_ = file.name();
  store.packed_ = PackedIndex::parse(file);
  const std::vector<StoredTensor>& tensors = file.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (store.packed_ && PackedIndex::is_internal(tensors[i].name)) continue;
    store.entries_.push_back({tensors[i].name, {0, i}});
  }
  store.files_.push_back(std::move(file));
  return store;
}

const WeightStore::Entry* WeightStore::find_entry(std::string_view name) const {
  const auto found =
      std::ranges::lower_bound(entries_, name, {}, [](const auto& entry) -> std::string_view { return entry.first; });
  return found != entries_.end() && found->first == name ? &found->second : nullptr;
}

const StoredTensor& WeightStore::tensor_of(const Entry& entry) const {
  return files_[entry.file].tensors()[entry.tensor];
}

bool WeightStore::contains(std::string_view name) const {
  return find_entry(name) != nullptr || (packed_ && packed_->replaced.contains(name));
}

const std::vector<int64_t>& WeightStore::shape(std::string_view name) const {
  if (packed_) {
    const auto replaced = packed_->replaced.find(name);
    if (replaced != packed_->replaced.end()) return replaced->second;
  }
  return get(name).shape;
}

const StoredTensor& WeightStore::get(std::string_view name) const {
  const StoredTensor* tensor = find(name);
  if (tensor == nullptr) throw user_error("{}: tensor {} is missing", path_.string(), name);
  return *tensor;
}

const StoredTensor* WeightStore::find(std::string_view name) const {
  const Entry* entry = find_entry(name);
  if (entry == nullptr) return nullptr;
  entry->used = true;
  return &tensor_of(*entry);
}

const StoredMatrix* WeightStore::find_matrix(std::string_view name) const {
  if (!packed_) return nullptr;
  const auto found = packed_->matrices.find(name);
  return found == packed_->matrices.end() ? nullptr : &found->second;
}

void WeightStore::change(const std::string& tensor, LowRank change) {
  changes_[tensor].push_back(std::move(change));
}

const std::vector<LowRank>& WeightStore::changes(std::string_view tensor) const {
  static const std::vector<LowRank> kNone;
  const auto found = changes_.find(tensor);
  return found == changes_.end() ? kNone : found->second;
}

void WeightStore::require(const std::vector<ExpectedTensor>& expected, std::string_view config) const {
  std::vector<std::string> missing;
  for (const ExpectedTensor& tensor : expected) {
    if (!contains(tensor.name)) missing.push_back(tensor.name);
  }
  if (!missing.empty()) {
    const size_t shown = std::min(missing.size(), kMaxNamesInMessage);
    const std::string more = shown < missing.size() ? fmt::format(" and {} more", missing.size() - shown) : "";
    throw user_error("{}: {} tensors that {} asks for are missing: {}{}", path_.string(), missing.size(), config,
                     fmt::join(missing.begin(), missing.begin() + static_cast<int64_t>(shown), ", "), more);
  }
  for (const ExpectedTensor& tensor : expected) {
    const std::vector<int64_t>& found = shape(tensor.name);
    const Entry* entry = find_entry(tensor.name);
    const std::string& file = file_of(tensor.name);
    if (found != tensor.shape) {
      throw user_error("{}: asks for {} of shape {}, but it is {} in {}; is this config from another checkpoint?",
                       config, tensor.name, shape_string(tensor.shape), shape_string(found), file);
    }
    if (entry == nullptr) continue;
    if (!is_floating_point(tensor_of(*entry).dtype)) {
      throw user_error("{}: tensor {} has the dtype {}; F32, BF16 and F16 are supported", file, tensor.name,
                       dtype_name(tensor_of(*entry).dtype));
    }
    const StoredTensor& stored = tensor_of(*entry);
    check_values(stored.data, stored.dtype, tensor.may_be_zero || may_be_zero(stored), tensor.name, file);
    entry->used = true;
  }
  if (!packed_) return;
  for (const auto& [name, matrix] : packed_->matrices) {
    const auto of = std::ranges::find(expected, name, &ExpectedTensor::name);
    const bool zero_is_good = of != expected.end() && of->may_be_zero;
    check_values(matrix.data, matrix.layout.dtype, zero_is_good, name, files_.front().name());
  }
}

void WeightStore::add_missing(WeightStore base) {
  for (const WeightStore* store : {static_cast<const WeightStore*>(this), static_cast<const WeightStore*>(&base)}) {
    if (store->packed_)
      throw user_error("{}: is packed, and its tensors are in no order to share", store->path_.string());
  }
  const size_t first = files_.size();
  std::vector<std::pair<std::string, Entry>> missing;
  for (const auto& [name, entry] : base.entries_) {
    if (find_entry(name) == nullptr) missing.push_back({name, {.file = first + entry.file, .tensor = entry.tensor}});
  }
  std::ranges::move(base.files_, std::back_inserter(files_));
  std::ranges::move(missing, std::back_inserter(entries_));
  std::ranges::sort(entries_, {}, &std::pair<std::string, Entry>::first);
}

const std::string& WeightStore::file_of(std::string_view tensor) const {
  const Entry* entry = find_entry(tensor);
  return files_[entry == nullptr ? 0 : entry->file].name();
}

std::vector<std::string> WeightStore::unused() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) {
    if (!entry.used) names.push_back(name);
  }
  return names;
}

void WeightStore::release(const StoredTensor& tensor) const {
  if (const Entry* entry = find_entry(tensor.name)) files_[entry->file].release(tensor);
}

void WeightStore::release(const StoredMatrix& matrix) const {
  files_.front().release(matrix.data);
}

int64_t WeightStore::total_bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, entry] : entries_) bytes += static_cast<int64_t>(tensor_of(entry).data.size());
  if (packed_) {
    for (const auto& [name, matrix] : packed_->matrices) bytes += static_cast<int64_t>(matrix.data.size());
  }
  return bytes;
}

int64_t ExpectedTensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

int64_t WeightStore::total_elements() const {
  int64_t elements = 0;
  for (const auto& [name, entry] : entries_) elements += tensor_of(entry).elements();
  if (packed_) {
    for (const auto& [name, matrix] : packed_->matrices) elements += matrix.n * matrix.k * (matrix.gated ? 2 : 1);
  }
  return elements;
}

}  // namespace heartmula

#include "text/tokenizer_file.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"

namespace heartmula {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

std::string shown(const json& value) {
  return shortened(value.dump(), 60);
}

Error unsupported(const std::string& name, const std::string& component) {
  return user_error("{}: {} is not supported; only byte-level BPE tokenizers of the Llama-3 kind are", name, component);
}

/// Receives the parser's events: vocabulary and merges go straight to their tables (they are 99 % of the file, and as
/// a json object they would take ten times as long), the rest becomes a document.
class Reader {
 public:
  Reader(TokenizerFile& file, const std::string& name, size_t size) : file_(file), name_(name) {
    // No text is longer than its source, so the views stay valid while these fill up.
    file_.vocabulary_text.reserve(size);
    file_.merge_text.reserve(size);
  }

  const json& document() const { return document_; }
  bool has_vocabulary() const { return has_vocabulary_; }
  bool has_merges() const { return has_merges_; }

  bool null() { return value(nullptr); }
  bool boolean(bool v) { return value(v); }
  bool number_integer(json::number_integer_t v) { return value(v); }
  bool number_float(json::number_float_t v, const std::string&) { return value(v); }
  bool binary(json::binary_t&) { return false; }

  bool number_unsigned(json::number_unsigned_t v) {
    if (place_ != Place::kVocabulary) return value(v);
    if (v >= kMaxTokenIds) throw user_error("{}: model.vocab: id {} is too large", name_, v);
    file_.vocabulary.push_back({entry_text_, static_cast<int32_t>(v)});
    return true;
  }

  bool string(std::string& v) {
    if (place_ == Place::kPair) {
      if (pair_.size() == 2) throw bad_merge();
      pair_.push_back(store(file_.merge_text, v));
      return true;
    }
    if (place_ != Place::kMerges) return value(v);
    const std::string_view text = store(file_.merge_text, v);
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) throw bad_merge();
    file_.merges.push_back({text.substr(0, space), text.substr(space + 1)});
    return true;
  }

  bool key(std::string& v) {
    if (place_ == Place::kVocabulary) {
      entry_text_ = store(file_.vocabulary_text, v);
    } else {
      key_ = v;
    }
    return true;
  }

  bool start_object(size_t) {
    refuse_container_in_table();
    if (is_in_model("vocab")) {
      place_ = Place::kVocabulary;
      has_vocabulary_ = true;
      return true;
    }
    const bool is_model = open_.size() == 1 && key_ == "model";
    open(json::object());
    if (is_model) model_ = open_.back();
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::kMerges) {
      place_ = Place::kPair;
      pair_.clear();
      return true;
    }
    refuse_container_in_table();
    if (is_in_model("merges")) {
      place_ = Place::kMerges;
      has_merges_ = true;
      return true;
    }
    open(json::array());
    return true;
  }

  bool end_object() { return end(); }

  bool end_array() {
    if (place_ != Place::kPair) return end();
    if (pair_.size() != 2) throw bad_merge();
    file_.merges.push_back({pair_[0], pair_[1]});
    place_ = Place::kMerges;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception&) {
    throw user_error("{}: not valid JSON at byte {}", name_, position);
  }

 private:
  enum class Place { kDocument, kVocabulary, kMerges, kPair };

  static std::string_view store(std::vector<char>& text, const std::string& v) {
    const size_t offset = text.size();
    text.insert(text.end(), v.begin(), v.end());
    return {text.data() + offset, v.size()};
  }

  Error bad_merge() const {
    return user_error("{}: model.merges[{}] is neither \"left right\" nor [\"left\", \"right\"]", name_,
                      file_.merges.size());
  }

  void refuse_container_in_table() const {
    if (place_ == Place::kVocabulary) throw user_error("{}: model.vocab holds something that is no id", name_);
    if (place_ != Place::kDocument) throw bad_merge();
  }

  bool is_in_model(const char* field) const {
    return model_ != nullptr && !open_.empty() && open_.back() == model_ && key_ == field;
  }

  json* add(json&& v) {
    if (open_.empty()) {
      document_ = std::move(v);
      return &document_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    json& child = parent[key_];
    child = std::move(v);
    return &child;
  }

  void open(json&& container) {
    if (open_.size() == kMaxDepth) throw user_error("{}: nested more than {} levels deep", name_, kMaxDepth);
    open_.push_back(add(std::move(container)));
  }

  bool value(json v) {
    refuse_container_in_table();
    add(std::move(v));
    return true;
  }

  bool end() {
    if (place_ == Place::kDocument) {
      if (open_.back() == model_) model_ = nullptr;
      open_.pop_back();
    }
    place_ = Place::kDocument;
    return true;
  }

  TokenizerFile& file_;
  const std::string& name_;
  json document_;
  std::vector<json*> open_;
  const json* model_ = nullptr;
  std::string key_;
  Place place_ = Place::kDocument;
  bool has_vocabulary_ = false;
  bool has_merges_ = false;
  std::string_view entry_text_;
  std::vector<std::string_view> pair_;
};

/// What stands at `field`, null if nothing does.
const json& field_of(const json& object, const char* field) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(field);
  return found == object.end() ? kNull : *found;
}

bool is_string(const json& value, const char* text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}

std::optional<int32_t> as_id(const json& value) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= kMaxTokenIds) return std::nullopt;
  return value.get<int32_t>();
}

bool flag(const json& object, const char* field, bool fallback, const std::string& where) {
  const json& value = field_of(object, field);
  if (value.is_null()) return fallback;
  if (!value.is_boolean()) throw user_error("{}.{} must be true or false, not {}", where, field, shown(value));
  return value.get<bool>();
}

void read_model(const json& model, const std::string& name, TokenizerFile& file) {
  if (!is_string(field_of(model, "type"), "BPE")) {
    throw unsupported(name, fmt::format("model type {}", shown(field_of(model, "type"))));
  }
  const json& dropout = field_of(model, "dropout");
  if (!dropout.is_null() && !(dropout.is_number() && dropout.get<double>() == 0)) {
    throw unsupported(name, fmt::format("model.dropout {}", shown(dropout)));
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json& value = field_of(model, affix);
    if (!value.is_null() && !is_string(value, "")) {
      throw unsupported(name, fmt::format("model.{} {}", affix, shown(value)));
    }
  }
  // unk_token, fuse_unk and byte_fallback matter only for bytes without an entry, and Tokenizer asks for all of them.
  file.ignore_merges = flag(model, "ignore_merges", false, name + ": model");
}

void read_added_tokens(const json& tokens, const std::string& name, TokenizerFile& file) {
  if (tokens.is_null()) return;
  if (!tokens.is_array()) throw user_error("{}: added_tokens must be a list", name);
  for (const json& token : tokens) {
    const std::string where = fmt::format("{}: added_tokens[{}]", name, file.added_tokens.size());
    const json& content = field_of(token, "content");
    const std::optional<int32_t> id = as_id(field_of(token, "id"));
    if (!content.is_string() || content.get_ref<const std::string&>().empty()) {
      throw user_error("{}.content must be a string that is not empty", where);
    }
    if (!id) throw user_error("{}.id must be an integer from 0 to {}", where, kMaxTokenIds - 1);
    for (const char* option : {"single_word", "lstrip", "rstrip"}) {
      if (flag(token, option, false, where)) {
        throw unsupported(name, fmt::format("added token {} with {}", shown(content), option));
      }
    }
    file.added_tokens.push_back({content.get<std::string>(), *id, flag(token, "normalized", false, where)});
  }
}

std::string read_split(const json& split, const std::string& name) {
  const json& pattern = field_of(split, "pattern");
  const json& expression = field_of(pattern, "Regex");
  if (!expression.is_string())
    throw unsupported(name, fmt::format("pre_tokenizer Split with pattern {}", shown(pattern)));
  if (!is_string(field_of(split, "behavior"), "Isolated")) {
    throw unsupported(name, fmt::format("pre_tokenizer Split with behavior {}", shown(field_of(split, "behavior"))));
  }
  if (flag(split, "invert", false, name + ": pre_tokenizer"))
    throw unsupported(name, "pre_tokenizer Split with invert");
  return expression.get<std::string>();
}

void check_byte_level(const json& step, const std::string& name) {
  const std::string where = name + ": pre_tokenizer";
  if (flag(step, "add_prefix_space", true, where))
    throw unsupported(name, "pre_tokenizer ByteLevel with add_prefix_space");
  if (flag(step, "use_regex", true, where)) throw unsupported(name, "pre_tokenizer ByteLevel with use_regex");
}

/// The elements of a Sequence, or the one component itself.
std::vector<json> steps_of(const json& component, const char* list) {
  if (component.is_null()) return {};
  if (!is_string(field_of(component, "type"), "Sequence")) return {component};
  const json& elements = field_of(component, list);
  return elements.is_array() ? elements.get<std::vector<json>>() : std::vector<json>{elements};
}

void read_pre_tokenizer(const json& component, const std::string& name, TokenizerFile& file) {
  bool is_byte_level = false;
  for (const json& step : steps_of(component, "pretokenizers")) {
    const json& type = field_of(step, "type");
    if (is_string(type, "Split") && !is_byte_level) {
      file.split_expressions.push_back(read_split(step, name));
    } else if (is_string(type, "ByteLevel") && !is_byte_level) {
      check_byte_level(step, name);
      is_byte_level = true;
    } else {
      throw unsupported(name, fmt::format("pre_tokenizer {}{}", shown(type), is_byte_level ? " after ByteLevel" : ""));
    }
  }
  if (!is_byte_level) throw unsupported(name, "a pre_tokenizer without ByteLevel");
}

const json& template_ids(const json& component, const json& token, const std::string& name) {
  const json& id = field_of(token, "id");
  if (id.is_string()) {
    const json& entry = field_of(field_of(component, "special_tokens"), id.get_ref<const std::string&>().c_str());
    const json& ids = field_of(entry, "ids");
    if (ids.is_array()) return ids;
  }
  throw user_error("{}: post_processor: special_tokens has no ids for {}", name, shown(id));
}

void read_template(const json& component, const std::string& name, TokenizerFile& file) {
  const json& single = field_of(component, "single");
  if (!single.is_array()) throw user_error("{}: post_processor.single must be a list", name);
  bool is_after = false;
  for (const json& piece : single) {
    const json& token = field_of(piece, "SpecialToken");
    const json& sequence = field_of(piece, "Sequence");
    if (token.is_object()) {
      for (const json& id : template_ids(component, token, name)) {
        if (!as_id(id)) throw user_error("{}: post_processor: {} is no token id", name, shown(id));
        (is_after ? file.ids_after : file.ids_before).push_back(*as_id(id));
      }
    } else if (is_string(field_of(sequence, "id"), "A") && !is_after) {
      is_after = true;
    } else {
      throw unsupported(name, fmt::format("post_processor template {}", shown(single)));
    }
  }
  if (!is_after) throw unsupported(name, fmt::format("post_processor template {}", shown(single)));
}

void read_post_processor(const json& component, const std::string& name, TokenizerFile& file) {
  bool has_template = false;
  for (const json& step : steps_of(component, "processors")) {
    const json& type = field_of(step, "type");
    if (is_string(type, "ByteLevel")) continue;  // moves offsets only
    if (!is_string(type, "TemplateProcessing") || has_template) {
      throw unsupported(name, fmt::format("post_processor {}{}", shown(type), has_template ? " after a template" : ""));
    }
    read_template(step, name, file);
    has_template = true;
  }
}

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& name) {
  TokenizerFile file;
  Reader reader(file, name, text.size());
  if (!text.starts_with('{')) refuse_other_kind(std::as_bytes(std::span(text)), FileKind::kJson, name);
  json::sax_parse(text.data(), text.data() + text.size(), &reader);

  const json& document = reader.document();
  if (!document.is_object()) throw user_error("{}: must hold one JSON object", name);
  if (!field_of(document, "model").is_object()) throw user_error("{}: model is missing", name);
  read_model(document["model"], name, file);
  if (!reader.has_vocabulary()) throw user_error("{}: model.vocab is missing", name);
  if (!reader.has_merges()) throw user_error("{}: model.merges is missing", name);
  for (const char* component : {"normalizer", "truncation", "padding"}) {
    const json& value = field_of(document, component);
    if (!value.is_null()) throw unsupported(name, fmt::format("{} {}", component, shown(value)));
  }
  read_added_tokens(field_of(document, "added_tokens"), name, file);
  read_pre_tokenizer(field_of(document, "pre_tokenizer"), name, file);
  read_post_processor(field_of(document, "post_processor"), name, file);
  return file;
}

}  // namespace heartmula

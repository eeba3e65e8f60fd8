#include "text/tokenizer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"
#include "text/byte_alphabet.h"
#include "text/byte_pairs.h"
#include "text/hash_index.h"
#include "text/split_expression.h"
#include "text/tokenizer_file.h"
#include "text/unicode.h"

namespace heartmula {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 28;
constexpr int32_t kNone = HashIndex::kNone;

size_t index_of(char byte) {
  return static_cast<unsigned char>(byte);
}

/// Finds the leftmost added token, the longest of those that begin there.
class AddedTokenFinder {
 public:
  void add(std::string content, int32_t id) {
    auto& tokens = by_first_byte_[index_of(content[0])];
    const auto shorter = [&content](const Token& token) { return token.content.size() < content.size(); };
    tokens.insert(std::find_if(tokens.begin(), tokens.end(), shorter), {std::move(content), id});
  }

  template <typename OnText, typename OnToken>
  void split(std::string_view text, OnText on_text, OnToken on_token) const {
    size_t begin = 0;
    for (size_t i = 0; i < text.size();) {
      const Token* token = at(text.substr(i));
      if (token == nullptr) {
        ++i;
        continue;
      }
      if (i > begin) on_text(text.substr(begin, i - begin));
      on_token(token->id);
      i += token->content.size();
      begin = i;
    }
    if (begin < text.size()) on_text(text.substr(begin));
  }

 private:
  struct Token {
    std::string content;
    int32_t id;
  };

  const Token* at(std::string_view text) const {
    for (const Token& token : by_first_byte_[index_of(text[0])]) {
      if (text.starts_with(token.content)) return &token;
    }
    return nullptr;
  }

  std::array<std::vector<Token>, 256> by_first_byte_;  // longest first
};

}  // namespace

struct Tokenizer::Tables {
  std::vector<char> vocabulary_text;
  std::vector<std::string_view> entries;  // by id; empty where there is none
  HashIndex index;                        // from the vocabulary's texts, not the added ones, to ids
  std::unordered_map<int32_t, std::string> added;
  AddedTokenFinder raw_added;
  AddedTokenFinder normalized_added;
  std::vector<SplitExpression> splits;
  std::array<int32_t, 256> byte_ids;
  MergeTable merges;
  bool ignore_merges = false;
  std::vector<int32_t> ids_before;
  std::vector<int32_t> ids_after;

  Tables(TokenizerFile&& file, const std::string& name)
      : vocabulary_text(std::move(file.vocabulary_text)),
        index(file.vocabulary.size()),
        merges(file.merges.size()),
        ignore_merges(file.ignore_merges),
        ids_before(std::move(file.ids_before)),
        ids_after(std::move(file.ids_after)) {
    add_vocabulary(file.vocabulary, name);
    add_byte_ids(name);
    add_merges(file.merges, name);
    add_added_tokens(std::move(file.added_tokens), file.vocabulary.size(), name);
    for (const std::string& expression : file.split_expressions) splits.emplace_back(expression, name);
    for (const auto& special : {ids_before, ids_after}) {
      for (const int32_t id : special) {
        if (!has(id)) throw user_error("{}: post_processor: {} is the id of no token", name, id);
      }
    }
  }

  bool has(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < entries.size() && (!entries[static_cast<size_t>(id)].empty());
  }

  static uint64_t hash(std::string_view text) { return std::hash<std::string_view>()(text); }

  auto is_same(std::string_view text) const {
    return [this, text](int32_t id) { return entries[static_cast<size_t>(id)] == text; };
  }

  /// The id of a text of the vocabulary, or kNone.
  int32_t find(std::string_view text) const { return index.find(hash(text), is_same(text)); }

  void set_entry(int32_t id, std::string_view text, const std::string& name) {
    if (static_cast<size_t>(id) >= entries.size()) entries.resize(static_cast<size_t>(id) + 1);
    std::string_view& entry = entries[static_cast<size_t>(id)];
    if (!entry.empty())
      throw user_error("{}: {} and {} have the same id {}", name, in_quotes(entry), in_quotes(text), id);
    entry = text;
  }

  void add_vocabulary(const std::vector<TokenizerFile::Entry>& vocabulary, const std::string& name) {
    entries.reserve(vocabulary.size());
    for (const TokenizerFile::Entry& entry : vocabulary) {
      if (entry.text.empty()) throw user_error("{}: model.vocab has an empty token", name);
      if (find(entry.text) != kNone) {
        throw user_error("{}: model.vocab has {} twice", name, in_quotes(entry.text));
      }
      set_entry(entry.id, entry.text, name);
      index.set(hash(entry.text), entry.id, is_same(entry.text));
    }
  }

  void add_byte_ids(const std::string& name) {
    for (size_t byte = 0; byte < 256; ++byte) {
      byte_ids[byte] = find(byte_alphabet().characters[byte]);
      const bool occurs_in_utf8 = byte < 0xC0 || (byte >= 0xC2 && byte <= 0xF4);
      if (byte_ids[byte] == kNone && occurs_in_utf8) {
        throw user_error("{}: model.vocab has no token for byte 0x{:02X}", name, byte);
      }
    }
  }

  void add_merges(const std::vector<TokenizerFile::Merge>& file_merges, const std::string& name) {
    std::string whole;
    for (size_t rank = 0; rank < file_merges.size(); ++rank) {
      const auto id_of = [&](std::string_view text) {
        const int32_t id = find(text);
        if (id == kNone) {
          throw user_error("{}: model.merges[{}]: {} is not in model.vocab", name, rank, in_quotes(text));
        }
        return id;
      };
      const auto& [left, right] = file_merges[rank];
      whole.assign(left).append(right);
      merges.add({id_of(left), id_of(right), id_of(whole)});
    }
  }

  /// As Hugging Face's library does: one that the vocabulary has keeps its id, the others get the next ids in order,
  /// whatever their "id" says, and one that appears again is the same.
  void add_added_tokens(std::vector<TokenizerFile::AddedToken> tokens, size_t vocabulary_count,
                        const std::string& name) {
    int32_t next = static_cast<int32_t>(vocabulary_count);
    std::unordered_set<std::string> seen;
    std::string first_other;
    int others = 0;
    for (TokenizerFile::AddedToken& token : tokens) {
      if (!seen.insert(token.content).second) continue;
      const int32_t in_vocabulary = find(token.content);
      const int32_t id = in_vocabulary == kNone ? next : in_vocabulary;
      if (token.id != id && others++ == 0) {
        first_other = message("{} has {} and not {}", in_quotes(token.content), id, token.id);
      }
      const auto place = added.emplace(id, token.content).first;
      if (in_vocabulary == kNone) set_entry(id, place->second, name);
      next = std::max(next, id + 1);
      (token.normalized ? normalized_added : raw_added).add(std::move(token.content), id);
    }
    if (others > 0) {
      spdlog::warn("{}: added_tokens have the next ids after the vocabulary, not those that stand there: {}{}", name,
                   first_other, others > 1 ? fmt::format(", and {} more", others - 1) : "");
    }
  }
};

Tokenizer::Tokenizer(std::unique_ptr<const Tables> tables) : tables_(std::move(tables)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::open(const std::filesystem::path& path) {
  return read_downloaded(path, [&path] { return parse(read_file(path, kMaxFileBytes), path.string()); });
}

Tokenizer Tokenizer::parse(std::string_view json, const std::string& name) {
  return Tokenizer(std::make_unique<const Tables>(parse_tokenizer_file(json, name), name));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  check_utf8("text", text);
  const Tables& tables = *tables_;
  std::vector<int32_t> ids;
  Merger merger(tables.merges);
  std::string entry;
  std::vector<int32_t> symbols;

  const auto add_piece = [&](std::string_view piece) {
    if (tables.ignore_merges) {
      entry.clear();
      for (const char byte : piece) entry += byte_alphabet().characters[index_of(byte)];
      const int32_t id = tables.find(entry);
      if (id != kNone) {
        ids.push_back(id);
        return;
      }
    }
    symbols.clear();
    for (const char byte : piece) symbols.push_back(tables.byte_ids[index_of(byte)]);
    merger.merge(symbols, ids);
  };
  const std::function<void(size_t, std::string_view)> split = [&](size_t level, std::string_view part) {
    if (level == tables.splits.size()) return add_piece(part);
    tables.splits[level].split(part, [&](std::string_view piece) { split(level + 1, piece); });
  };
  const auto add_token = [&](int32_t id) { ids.push_back(id); };

  if (add_special_tokens) ids = tables.ids_before;
  tables.raw_added.split(
      text,
      [&](std::string_view part) {
        tables.normalized_added.split(
            part, [&](std::string_view words) { split(0, words); }, add_token);
      },
      add_token);
  if (add_special_tokens) ids.insert(ids.end(), tables.ids_after.begin(), tables.ids_after.end());
  return ids;
}

std::string Tokenizer::piece(int32_t id) const {
  const auto added = tables_->added.find(id);
  if (added != tables_->added.end()) return added->second;
  if (!tables_->has(id)) throw user_error("token id {} is not in the vocabulary", id);
  const std::string_view entry = tables_->entries[static_cast<size_t>(id)];
  std::string bytes;
  for (size_t i = 0; i < entry.size();) {
    const size_t length = index_of(entry[i]) < 0x80 ? 1 : 2;
    const auto byte = byte_alphabet().bytes.find(entry.substr(i, length));
    if (byte == byte_alphabet().bytes.end()) return std::string(entry);
    bytes += byte->second;
    i += length;
  }
  return bytes;
}

int32_t Tokenizer::vocabulary_size() const {
  return static_cast<int32_t>(tables_->entries.size());
}

}  // namespace heartmula

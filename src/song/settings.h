// The table of settings: one entry makes a flag of the command line, a field of the request's JSON, its checks, its
// line of --help and of the README.
//
// A new setting is a field of its group (request.h), an entry of the table (settings.cpp), and the place that uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "song/request.h"

namespace heartmula {

enum class SettingGroup { kCheckpoint, kSong, kCodec, kMachine, kOutput, kRun };

/// What another value of a setting changes: the codes of the song, only its sound, or neither. What is of this run only
/// is not stored.
enum class Changes { kCodes, kSound, kNothing, kThisRun };

/// The commands that take a setting; a set of bits. kStages: bench and plan; kSteps: steps; kDrafts: drafts; kLint:
/// lint; kServe: serve.
enum Commands : unsigned {
  kGenerate = 1,
  kDecode = 2,
  kConvert = 4,
  kDoctor = 8,
  kStages = 16,
  kSteps = 32,
  kDrafts = 64,
  kLint = 128,
  kServe = 256
};

/// How the values of a setting look, where they lie in a Request, and what they may be. The kinds:
/// setting_texts.h, setting_numbers.h, setting_words.h.
class SettingType {
 public:
  virtual ~SettingType() = default;
  /// What stands for a value in --help: "N", "FILE"; empty if the flag alone says it.
  virtual std::string placeholder() const = 0;
  /// The JSON schema of a value: type, range, words.
  virtual nlohmann::json schema() const = 0;
  /// Null if there is no value.
  virtual nlohmann::json get(const Request& request) const = 0;
  /// `where` begins the message of the Error(kUser) if the value is of another kind: "song.json: topk".
  virtual void set(Request& request, const nlohmann::json& value, const std::string& where) const = 0;
  /// Of a word on the command line; `where` is "--topk".
  virtual void parse(Request& request, const std::string& word, const std::string& where) const = 0;
  /// Throws Error(kUser) that begins with `where` if the value is outside its range; `hint` ends the message.
  virtual void check(const Request& request, const std::string& where, const std::string& hint) const = 0;
  /// A value may be left out on the command line: `--lazy_load` is `--lazy_load true`.
  virtual bool value_is_optional() const { return false; }
  /// The value is the name of a file, or a list of such names.
  virtual bool names_files() const { return false; }
  /// Each time that the flag is given adds a value.
  virtual bool is_list() const { return false; }
};

struct Setting {
  std::string name;  // of the flag, without "--", and of the JSON's field
  SettingGroup group = SettingGroup::kSong;
  Changes changes = Changes::kNothing;
  unsigned commands = kGenerate;
  std::shared_ptr<const SettingType> type;
  std::string help;               // in Markdown, one line
  std::string default_text = {};  // what stands in parentheses behind it; the default's JSON if empty
  std::string hint = {};          // what to do about a value out of range

  std::string flag() const { return "--" + name; }
  bool stored() const { return changes != Changes::kThisRun; }
};

/// In the order of --help and README, which is also that in which values are taken: `quality` sets others, which may be
/// given after it.
const std::vector<Setting>& settings_table();
/// Null if there is none of that name.
const Setting* find_setting(std::string_view name);

/// The default as people read it; empty if there is none.
std::string default_text(const Setting& setting);
/// The JSON schema of a request (json-schema.org, 2020-12): every setting that is stored, with type, range or words,
/// default, description, "x-group", "x-changes", and "x-file" where the value names a file.
nlohmann::json request_schema();
/// The rows of the README's table for a command: "| `--topk N` | ... (50) |".
std::string markdown_rows(Commands command);
/// `text` without Markdown's quotes and links.
std::string plain_text(std::string_view text);

/// What a song carries with it: title, and the settings that make its codes and their sound; of files, only the names.
/// Nothing of the machine that it was made on.
nlohmann::json music_json(const Request& request);
/// Whether both make the same codes with the same language model: which one that is, its fingerprint tells, not its
/// name.
bool same_codes(const Request& a, const Request& b);

}  // namespace heartmula

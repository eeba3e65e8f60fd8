#include "cli/setting_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"

namespace heartmula {
namespace {

const char* heading(SettingGroup group) {
  switch (group) {
    case SettingGroup::kCheckpoint:
      return "Checkpoint";
    case SettingGroup::kSong:
      return "Song";
    case SettingGroup::kCodec:
      return "Codec";
    case SettingGroup::kMachine:
      return "Machine";
    case SettingGroup::kOutput:
      return "Output";
    case SettingGroup::kRun:
      return "This run";
  }
  return "";
}

}  // namespace

void SettingFlags::add_to(CLI::App& app, Commands command) {
  for (const Setting& setting : settings_table()) {
    if ((setting.commands & command) == 0) continue;
    Words& words = words_[setting.name];
    const SettingType& type = *setting.type;
    const std::string flags = both_spellings(setting.flag());
    const std::string default_value = default_text(setting);
    const std::string help =
        plain_text(setting.help + (default_value.empty() ? "" : fmt::format(" ({})", default_value)));
    CLI::Option* option = nullptr;
    if (type.placeholder().empty()) {
      option = app.add_flag_function(
          flags, [&words](int64_t count) { words.one = count > 0 ? "true" : "false"; }, help);
    } else if (type.is_list()) {
      option = app.add_option(flags, words.list, help)
                   ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
                   ->allow_extra_args(false);
    } else {
      option = app.add_option(flags, words.one, help);
      if (type.value_is_optional()) option->expected(0, 1);
    }
    option->group(heading(setting.group));
    if (!type.placeholder().empty()) option->type_name(type.placeholder());
  }
}

std::optional<std::string> SettingFlags::word(const std::string& name) const {
  const auto found = words_.find(name);
  if (found == words_.end()) return std::nullopt;
  return found->second.list.empty() ? found->second.one : found->second.list.back();
}

void SettingFlags::apply(Request& request) const {
  for (const Setting& setting : settings_table()) {
    const auto found = words_.find(setting.name);
    if (found == words_.end()) continue;
    const Words& words = found->second;
    if (!words.list.empty()) {
      setting.type->set(request, words.list, setting.flag());
    } else if (words.one) {
      setting.type->parse(request, *words.one, setting.flag());
    }
  }
}

}  // namespace heartmula

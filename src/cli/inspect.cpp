// heartmula inspect: what is in a checkpoint, a safetensors file or a codes file.
#include "checkpoint/inspect.h"

#include <nlohmann/json.hpp>

#include "base/input.h"
#include "cli/commands.h"
#include "song/inspect_codes.h"
#include "tensor/safetensors.h"

namespace heartmula {
namespace {

nlohmann::json inspect_safetensors(const SafetensorsFile& file) {
  return holds_codes(file) ? inspect_codes(file) : inspect_file(file);
}

nlohmann::json inspect_any(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return inspect_folder(path);
  if (input_kind(path) != InputKind::kStream) return inspect_safetensors(SafetensorsFile::open(path));
  const InputBytes input(path);
  return inspect_safetensors(SafetensorsFile::parse(input.bytes(), input.name()));
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  struct Options {
    std::string path;
    bool json = false;
  };
  Command command(app, "inspect", "Show what is in a checkpoint, a safetensors file or a codes file");
  auto options = std::make_shared<Options>();
  command.option("path", options->path, "Checkpoint folder, model folder or file").required();
  command.flag("--json", options->json, "For programs");
  command.runs(run, [options] {
    const std::filesystem::path path = expand_home(options->path);
    const nlohmann::json json = inspect_any(path);
    // A file name may be no UTF-8.
    constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
    if (options->json) {
      print_out(json.dump(2, ' ', false, kReplace) + "\n");
    } else {
      print_out(json["kind"].get<std::string>() == "codes" ? describe_codes(json) : describe_inspection(json));
    }
    return 0;
  });
}

}  // namespace heartmula

// A database in a file, of one process.
#pragma once

#include <filesystem>
#include <memory>

#include "serve/database.h"

namespace heartmula {

/// `path`: the file, which is made where it is missing; beside it lie PATH-wal and PATH-shm. Readers never wait for
/// writers. Throws Error(kUser) while another process has it open, naming `flag`.
std::unique_ptr<DatabaseSource> sqlite_source(const std::filesystem::path& path, std::string_view flag);

}  // namespace heartmula

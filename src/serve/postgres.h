// A PostgreSQL server, which any number of processes on any number of machines share.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "serve/database.h"

namespace heartmula {

/// "postgresql://user@host/name" or "host=... dbname=...", as libpq takes it; its environment variables and password
/// file count, too.
/// `patience`: how long a server that was reached before may be away before it is an error.
/// Throws Error(kUser) if it is no connection string.
std::unique_ptr<DatabaseSource> postgres_source(const std::string& connection,
                                                std::chrono::milliseconds patience = std::chrono::seconds(10));

}  // namespace heartmula

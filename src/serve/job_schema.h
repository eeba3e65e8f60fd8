// The tables of a JobStore.
#pragma once

#include <string>

#include "serve/database.h"

namespace heartmula {

/// Makes what a database lacks, from whatever version it has. `name`: of the database, for messages. Error(kUser) if a
/// newer program made it.
void migrate_jobs(Database& database, const std::string& name);

}  // namespace heartmula

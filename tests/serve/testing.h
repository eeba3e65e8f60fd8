// A database for a test, in SQLite or, under tests/serve/with_postgres, in PostgreSQL.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>

#include "serve/database.h"
#include "serve/postgres.h"
#include "serve/sqlite.h"

namespace heartmula::serve_testing {

enum class Kind { kSqlite, kPostgres };

inline bool has_postgres() {
  return ::getenv("HEARTMULA_TEST_POSTGRES") != nullptr;
}

inline std::string postgres_connection() {
  return ::getenv("HEARTMULA_TEST_POSTGRES");
}

/// An empty one for each test, that any number of stores may open one after the other, and with PostgreSQL at once.
class TestDatabase {
 public:
  explicit TestDatabase(Kind kind) : kind_(kind) {
    std::string pattern = (std::filesystem::temp_directory_path() / "heartmula_serve_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    folder_ = pattern;
    if (kind == Kind::kPostgres) {
      schema_ = "t" + folder_.filename().string().substr(sizeof("heartmula_serve_") - 1);
      postgres_source(postgres_connection())->connect()->run("CREATE SCHEMA \"" + schema_ + '"');
    }
  }
  ~TestDatabase() { std::filesystem::remove_all(folder_); }
  TestDatabase(const TestDatabase&) = delete;
  TestDatabase& operator=(const TestDatabase&) = delete;

  std::unique_ptr<DatabaseSource> source() const {
    if (kind_ == Kind::kSqlite) return sqlite_source(folder_ / "jobs.db", "--data_dir");
    return postgres_source(postgres_connection() + " options='-csearch_path=\"" + schema_ + "\"'");
  }
  Kind kind() const { return kind_; }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  Kind kind_;
  std::filesystem::path folder_;
  std::string schema_;
};

}  // namespace heartmula::serve_testing

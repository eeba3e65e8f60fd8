#include "serve/sqlite.h"

#include <sqlite3.h>

#include <cerrno>
#include <cstring>
#include <unordered_map>

#include "base/error.h"
#include "base/output_lock.h"

namespace heartmula {
namespace {

// One process writes through one connection, so only another program, a backup say, can make it wait.
constexpr int kPatienceMs = 10'000;

constexpr Dialect kDialect = {
    .now_ms = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    .for_update = "",
    .skip_locked = "",
    .schema_lock = "",
    .notify = "",
};

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

class Sqlite : public Database {
 public:
  explicit Sqlite(const std::filesystem::path& path) : name_(path.string()) {
    sqlite3* database = nullptr;
    const int code = sqlite3_open_v2(path.c_str(), &database,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    database_.reset(database);
    if (code != SQLITE_OK) fail(code);
    sqlite3_extended_result_codes(database, 1);
    sqlite3_busy_timeout(database, kPatienceMs);
    execute("PRAGMA journal_mode = WAL");
    execute("PRAGMA foreign_keys = ON");
    execute("PRAGMA synchronous = NORMAL");
    execute("PRAGMA journal_size_limit = 67108864");  // audio in the database makes a log large once
  }

  SqlRows run(const std::string& sql, const SqlValues& values) override {
    sqlite3_stmt* statement = prepared(sql);
    // However it ends, the statement holds no lock and no reference to `values` afterwards.
    const std::unique_ptr<sqlite3_stmt, void (*)(sqlite3_stmt*)> reset(statement, [](sqlite3_stmt* used) {
      sqlite3_reset(used);
      sqlite3_clear_bindings(used);
    });
    bind(statement, values);
    SqlRows rows;
    int code = SQLITE_ROW;
    errno = 0;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) rows.push_back(row_of(statement));
    if (code != SQLITE_DONE) fail(code);
    return rows;
  }

  const Dialect& dialect() const override { return kDialect; }

 protected:
  void begin(Durability durability) override {
    if (durability != durability_) {  // cannot be changed within a transaction
      execute(durability == Durability::kDurable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
      durability_ = durability;
    }
    execute("BEGIN IMMEDIATE");
  }
  void commit() override { execute("COMMIT"); }
  void rollback() noexcept override {
    // A full disk ends a transaction by itself.
    if (sqlite3_get_autocommit(database_.get()) == 0) {
      sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
  }

 private:
  /// Not kept: some pragmas do their work when they are prepared.
  void execute(const char* sql) {
    errno = 0;
    const int code = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) fail(code);
  }

  sqlite3_stmt* prepared(const std::string& sql) {
    Statement& statement = statements_[sql];
    if (!statement) {
      sqlite3_stmt* made = nullptr;
      const int code = sqlite3_prepare_v3(database_.get(), sql.c_str(), static_cast<int>(sql.size() + 1),
                                          SQLITE_PREPARE_PERSISTENT, &made, nullptr);
      if (code != SQLITE_OK) fail(code);
      statement.reset(made);
    }
    return statement.get();
  }

  void bind(sqlite3_stmt* statement, const SqlValues& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const int place = sqlite3_bind_parameter_index(statement, fmt::format("${}", i + 1).c_str());
      const int code = std::visit(
          [&]<typename T>(const T& value) {
            if constexpr (std::is_same_v<T, int64_t>) {
              return sqlite3_bind_int64(statement, place, value);
            } else if constexpr (std::is_same_v<T, double>) {
              return sqlite3_bind_double(statement, place, value);
            } else if constexpr (std::is_same_v<T, std::string>) {
              return sqlite3_bind_text64(statement, place, value.data(), value.size(), SQLITE_STATIC, SQLITE_UTF8);
            } else if constexpr (std::is_same_v<T, Blob>) {
              // Without a pointer it would be NULL.
              return sqlite3_bind_blob64(statement, place, value.empty() ? "" : static_cast<const void*>(value.data()),
                                         value.size(), SQLITE_STATIC);
            } else {
              return sqlite3_bind_null(statement, place);
            }
          },
          values[i]);
      if (code != SQLITE_OK) fail(code);
    }
  }

  static SqlRow row_of(sqlite3_stmt* statement) {
    const int columns = sqlite3_column_count(statement);
    SqlValues values(static_cast<size_t>(columns));
    for (int column = 0; column < columns; ++column) {
      SqlValue& value = values[static_cast<size_t>(column)];
      const auto bytes = [&] { return static_cast<size_t>(sqlite3_column_bytes(statement, column)); };
      switch (sqlite3_column_type(statement, column)) {
        case SQLITE_INTEGER:
          value = sqlite3_column_int64(statement, column);
          break;
        case SQLITE_FLOAT:
          value = sqlite3_column_double(statement, column);
          break;
        case SQLITE_TEXT: {
          const void* data = sqlite3_column_text(statement, column);
          value = std::string(static_cast<const char*>(data), bytes());
          break;
        }
        case SQLITE_BLOB: {
          const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement, column));
          value = Blob(data, data + bytes());
          break;
        }
        default:
          break;
      }
    }
    return SqlRow(std::move(values));
  }

  [[noreturn]] void fail(int code) const {
    // A COMMIT that fails leaves its reason in errno alone.
    const int system_error = errno != 0 || !database_ ? errno : sqlite3_system_errno(database_.get());
    switch (code & 0xff) {
      case SQLITE_FULL:
        throw failure("{}: No space left on device", name_);
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        throw failure("{}: another program keeps the database locked", name_);
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        throw failure("{}: the file is damaged, or no database of heartmula", name_);
      case SQLITE_IOERR:
      case SQLITE_CANTOPEN:
        if (system_error != 0) throw failure("{}: {}", name_, std::strerror(system_error));
        break;
      case SQLITE_READONLY:
        throw failure("{}: cannot be written", name_);
      default:
        break;
    }
    throw failure("{}: {}", name_, database_ ? sqlite3_errmsg(database_.get()) : sqlite3_errstr(code));
  }

  std::string name_;
  std::unique_ptr<sqlite3, CloseDatabase> database_;
  std::unordered_map<std::string, Statement> statements_;  // closed before the database is
  Durability durability_ = Durability::kRelaxed;
};

class SqliteSource : public DatabaseSource {
 public:
  SqliteSource(const std::filesystem::path& path, std::string_view flag) : path_(path), lock_(path, flag) {}

  std::unique_ptr<Database> connect() override { return std::make_unique<Sqlite>(path_); }
  bool shared() const override { return false; }
  size_t writers() const override { return 1; }
  std::string name() const override { return path_.string(); }
  void listen(const std::stop_token&, const std::function<void(const std::string&)>&) override {}

 private:
  std::filesystem::path path_;
  OutputLock lock_;
};

}  // namespace

std::unique_ptr<DatabaseSource> sqlite_source(const std::filesystem::path& path, std::string_view flag) {
  return std::make_unique<SqliteSource>(path, flag);
}

}  // namespace heartmula

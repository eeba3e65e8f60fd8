// A database as jobs need it. The same SQL serves SQLite and PostgreSQL: parameters are $1, $2, ..., numbers are BIGINT
// and DOUBLE PRECISION, bytes are BYTEA, and where the two differ there is a word of the Dialect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "heartmula/error.h"

namespace heartmula {

using Blob = std::vector<std::byte>;
using SqlValue = std::variant<std::monostate, int64_t, double, std::string, Blob>;
using SqlValues = std::vector<SqlValue>;

/// A row of a result. Asking for another type than the database gave is Error(kFailure).
class SqlRow {
 public:
  explicit SqlRow(SqlValues values) : values_(std::move(values)) {}

  bool is_null(size_t column) const { return std::holds_alternative<std::monostate>(values_.at(column)); }
  int64_t integer(size_t column) const;
  std::optional<int64_t> maybe_integer(size_t column) const;
  std::optional<double> maybe_real(size_t column) const;
  const std::string& text(size_t column) const;
  const Blob& blob(size_t column) const;

 private:
  SqlValues values_;
};
using SqlRows = std::vector<SqlRow>;

/// Where the two speak differently.
struct Dialect {
  std::string_view now_ms;       // an expression: Unix milliseconds by the database's clock
  std::string_view for_update;   // ends a SELECT whose rows stay locked until the transaction ends
  std::string_view skip_locked;  // the same, without rows that others have locked
  std::string_view schema_lock;  // a statement, or nothing: one migration at a time
  std::string_view notify;       // a statement, or nothing: others hear $1 once the transaction is committed
};

/// What a committed transaction survives: a killed program, always; a power cut if it is kDurable, and with it all that
/// were committed before.
enum class Durability { kRelaxed, kDurable };

/// The database gave up a transaction, of which nothing was done: it may be tried again.
class TransactionLost : public Error {
 public:
  using Error::Error;
};

/// One connection, for one thread at a time. Errors are Error(kFailure), in one line.
class Database {
 public:
  virtual ~Database() = default;

  /// One statement. Outside of a transaction only such as may run twice.
  virtual SqlRows run(const std::string& sql, const SqlValues& values = {}) = 0;
  virtual const Dialect& dialect() const = 0;

  /// Commits what `work(*this)` did, and returns its result; undoes it if it throws. Only one process at a time writes
  /// to SQLite, others wait. After a TransactionLost `work` is called again.
  template <typename Work>
  auto transaction(Durability durability, const Work& work);

 protected:
  /// May be a TransactionLost.
  virtual void begin(Durability durability) = 0;
  /// Not a TransactionLost: whether a commit arrived cannot be known.
  virtual void commit() = 0;
  virtual void rollback() noexcept = 0;

  static constexpr int kTries = 3;
};

/// Makes connections to a database.
class DatabaseSource {
 public:
  virtual ~DatabaseSource() = default;

  virtual std::unique_ptr<Database> connect() = 0;
  /// Whether other processes may use it at the same time.
  virtual bool shared() const = 0;
  /// How many may write at once.
  virtual size_t writers() const = 0;
  /// For messages; without a password.
  virtual std::string name() const = 0;
  /// Calls `heard` with each text that Dialect::notify was given, by whomever, until `stop` is asked for; and with an
  /// empty text whenever it begins to hear: what came before was missed.
  virtual void listen(const std::stop_token& stop, const std::function<void(const std::string&)>& heard) = 0;
};

/// Connections that threads share.
class ConnectionPool {
 public:
  /// Makes up to `most` connections, each when it is first needed.
  ConnectionPool(DatabaseSource& source, size_t most);
  ~ConnectionPool();
  ConnectionPool(const ConnectionPool&) = delete;
  ConnectionPool& operator=(const ConnectionPool&) = delete;

  /// Waits while all are in use.
  template <typename Work>
  auto use(const Work& work) {
    const Borrowed database(*this);
    return work(*database.connection);
  }

 private:
  struct State;
  struct Borrowed {
    explicit Borrowed(ConnectionPool& from) : pool(from), connection(from.take()) {}
    ~Borrowed() { pool.give_back(std::move(connection)); }
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;

    ConnectionPool& pool;
    std::unique_ptr<Database> connection;
  };
  std::unique_ptr<Database> take();
  void give_back(std::unique_ptr<Database> connection) noexcept;

  std::unique_ptr<State> state_;
};

template <typename Work>
auto Database::transaction(Durability durability, const Work& work) {
  for (int attempt = 1;; ++attempt) {
    bool committing = false;
    try {
      begin(durability);
      if constexpr (std::is_void_v<decltype(work(*this))>) {
        work(*this);
        committing = true;
        commit();
        return;
      } else {
        auto result = work(*this);
        committing = true;
        commit();
        return result;
      }
    } catch (const TransactionLost&) {
      rollback();
      if (committing || attempt == kTries) throw;
    } catch (...) {
      rollback();
      throw;
    }
  }
}

}  // namespace heartmula

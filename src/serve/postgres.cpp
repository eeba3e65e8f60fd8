#include "serve/postgres.h"

#include <libpq-fe.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/error.h"

namespace heartmula {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr Dialect kDialect = {
    .now_ms = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    .for_update = " FOR UPDATE",
    .skip_locked = " FOR UPDATE SKIP LOCKED",
    .schema_lock = "SELECT pg_advisory_xact_lock(7521340973286014061)",  // any number of our own
    .notify = "SELECT pg_notify('heartmula_songs', $1)",
};
constexpr const char* kListen = "LISTEN heartmula_songs";

// Types of results, as the server numbers them.
enum ServerType : Oid { kBool = 16, kBytea = 17, kInt8 = 20, kInt4 = 23, kText = 25, kFloat8 = 701, kVoid = 2278 };

struct FinishConnection {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using Connection = std::unique_ptr<PGconn, FinishConnection>;
struct ClearResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, ClearResult>;

/// Where to connect, and what may be said about it.
struct Target {
  std::string connection;
  std::string password;  // empty: none in the string
  std::string name;
  milliseconds patience;
  std::atomic<bool> reached = false;

  /// libpq's lines as one, without the password.
  std::string line(std::string_view said) const {
    std::string text(said);
    while (text.ends_with('\n')) text.pop_back();
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) text.replace(at, 1, "; ");
    for (size_t at = 0; !password.empty() && (at = text.find(password, at)) != std::string::npos; at += 3) {
      text.replace(at, password.size(), "***");
    }
    return text;
  }

  /// What the string says comes after these, and wins. A server that vanished without a word is noticed in time.
  Connection try_connect() const {
    constexpr std::array kNames = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                   "keepalives_count", "tcp_user_timeout", "application_name",
                                   "client_encoding",  "dbname",           static_cast<const char*>(nullptr)};
    const std::array<const char*, kNames.size()> values = {
        "5", "10", "5", "3", "15000", "heartmula", "UTF8", connection.c_str(), nullptr};
    Connection made(PQconnectdbParams(kNames.data(), values.data(), /*expand_dbname=*/1));
    if (PQstatus(made.get()) == CONNECTION_OK) {
      PQsetNoticeProcessor(
          made.get(), [](void*, const char*) {}, nullptr);
      // A stopped process must not keep rows locked.
      const Result set(PQexec(made.get(), "SET idle_in_transaction_session_timeout = 60000"));
    }
    return made;
  }

  /// Patient with a server that was there before; else what is wrong is said at once.
  Connection connect() {
    const Clock::time_point until = Clock::now() + patience;
    for (milliseconds pause(50);; pause = std::min(2 * pause, milliseconds(1000))) {
      Connection made = try_connect();
      if (PQstatus(made.get()) == CONNECTION_OK) {
        reached = true;
        return made;
      }
      if (!reached || Clock::now() + pause >= until) {
        throw failure("cannot connect to {}: {}", name, line(PQerrorMessage(made.get())));
      }
      std::this_thread::sleep_for(pause);
    }
  }
};

template <typename Integer>
Integer big_endian(const char* data) {
  std::make_unsigned_t<Integer> number = 0;
  for (size_t i = 0; i < sizeof(number); ++i) number = number << 8 | static_cast<unsigned char>(data[i]);
  return static_cast<Integer>(number);
}

class Postgres : public Database {
 public:
  explicit Postgres(std::shared_ptr<Target> target) : target_(std::move(target)), connection_(target_->connect()) {}

  SqlRows run(const std::string& sql, const SqlValues& values) override {
    if (in_transaction_) return rows_of(execute(sql, values));
    for (int attempt = 1;; ++attempt) {
      reconnect_if_lost();
      try {
        return rows_of(execute(sql, values));
      } catch (const TransactionLost&) {
        if (attempt == kTries) throw;
      }
    }
  }

  const Dialect& dialect() const override { return kDialect; }

 protected:
  /// Always durable: a server may crash while its clients go on, who would miss what it forgot.
  void begin(Durability /*durability*/) override {
    reconnect_if_lost();
    const Result result(PQexec(connection_.get(), "BEGIN"));
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) fail(result.get());
    in_transaction_ = true;
  }

  void commit() override {
    const Result result(PQexec(connection_.get(), "COMMIT"));
    if (PQresultStatus(result.get()) == PGRES_COMMAND_OK) {
      in_transaction_ = false;
      return;
    }
    if (broken(result.get())) {
      connection_.reset();
      throw failure("{}: the connection was lost while something was saved; whether it was is not known",
                    target_->name);
    }
    fail(result.get());
  }

  void rollback() noexcept override {
    in_transaction_ = false;
    if (PQtransactionStatus(connection_.get()) != PQTRANS_IDLE) {
      const Result result(PQexec(connection_.get(), "ROLLBACK"));
    }
  }

 private:
  void reconnect_if_lost() {
    if (PQstatus(connection_.get()) == CONNECTION_OK) return;  // none at all is not
    connection_ = target_->connect();
  }

  /// What failed without a code failed on the way to the server. PQstatus may still be good then: libpq tells of a
  /// failed write as soon as it has read the server's last words, before the end that comes after them.
  bool broken(const PGresult* failed) const {
    return PQstatus(connection_.get()) != CONNECTION_OK || PQresultErrorField(failed, PG_DIAG_SQLSTATE) == nullptr;
  }

  Result execute(const std::string& sql, const SqlValues& values) {
    std::vector<std::string> texts(values.size());
    std::vector<const char*> data(values.size(), nullptr);
    std::vector<int> lengths(values.size(), 0);
    std::vector<int> formats(values.size(), 0);
    for (size_t i = 0; i < values.size(); ++i) {
      if (const auto* bytes = std::get_if<Blob>(&values[i])) {
        data[i] = bytes->empty() ? "" : reinterpret_cast<const char*>(bytes->data());
        lengths[i] = static_cast<int>(bytes->size());
        formats[i] = 1;
        continue;
      }
      if (const auto* text = std::get_if<std::string>(&values[i])) {
        data[i] = text->c_str();
        continue;
      }
      if (const auto* number = std::get_if<int64_t>(&values[i])) {
        texts[i] = fmt::format("{}", *number);
      } else if (const auto* real = std::get_if<double>(&values[i])) {
        texts[i] = fmt::format("{}", *real);
      } else {
        continue;
      }
      data[i] = texts[i].c_str();
    }
    Result result(PQexecParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr, data.data(),
                               lengths.data(), formats.data(), /*resultFormat=*/1));
    const ExecStatusType status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) fail(result.get());
    return result;
  }

  SqlRows rows_of(const Result& result) const {
    const int count = PQntuples(result.get());
    const int columns = PQnfields(result.get());
    SqlRows rows;
    rows.reserve(static_cast<size_t>(count));
    for (int row = 0; row < count; ++row) {
      SqlValues values(static_cast<size_t>(columns));
      for (int column = 0; column < columns; ++column) {
        if (PQgetisnull(result.get(), row, column) != 0) continue;
        values[static_cast<size_t>(column)] =
            value_of(PQftype(result.get(), column), PQgetvalue(result.get(), row, column),
                     static_cast<size_t>(PQgetlength(result.get(), row, column)));
      }
      rows.emplace_back(std::move(values));
    }
    return rows;
  }

  SqlValue value_of(Oid type, const char* data, size_t length) const {
    switch (type) {
      case kInt8:
        return big_endian<int64_t>(data);
      case kInt4:
        return int64_t{big_endian<int32_t>(data)};
      case kBool:
        return int64_t{data[0] != 0};
      case kFloat8:
        return std::bit_cast<double>(big_endian<int64_t>(data));
      case kText:
        return std::string(data, length);
      case kBytea: {
        const auto* bytes = reinterpret_cast<const std::byte*>(data);
        return Blob(bytes, bytes + length);
      }
      case kVoid:
        return std::monostate();
      default:
        throw failure("{}: a column has type {}, which none of heartmula's has", target_->name, type);
    }
  }

  [[noreturn]] void fail(const PGresult* result) {
    const bool lost = broken(result);
    const char* code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const std::string_view state = code == nullptr ? "" : code;
    const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const Error error = failure("{}: {}", target_->name,
                                target_->line(primary == nullptr ? PQerrorMessage(connection_.get()) : primary));
    if (lost) connection_.reset();
    // Two transactions waited for each other, or the server shuts down.
    if (lost || state == "40001" || state == "40P01" || state.starts_with("57P")) {
      throw TransactionLost(error.kind(), error.what());
    }
    throw error;
  }

  std::shared_ptr<Target> target_;
  Connection connection_;
  bool in_transaction_ = false;
};

/// What poll() waits for beside a connection.
class StopSignal {
 public:
  explicit StopSignal(const std::stop_token& stop)
      : callback_(stop, [this] { ::eventfd_write(event_.descriptor, 1); }) {}

  /// Until there is something to read from `socket`, or to stop, or a second is over. A socket below 0 is none.
  void wait(int socket, milliseconds longest = std::chrono::seconds(1)) const {
    std::array<pollfd, 2> both = {pollfd{.fd = event_.descriptor, .events = POLLIN, .revents = 0},
                                  pollfd{.fd = socket, .events = POLLIN, .revents = 0}};
    ::poll(both.data(), both.size(), static_cast<int>(longest.count()));
  }

 private:
  struct Event {
    const int descriptor = ::eventfd(0, EFD_CLOEXEC);  // without one a stop is noticed within the second

    Event() = default;
    ~Event() { ::close(descriptor); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
  };
  const Event event_;
  const std::stop_callback<std::function<void()>> callback_;  // not any more once the event is closed
};

class PostgresSource : public DatabaseSource {
 public:
  explicit PostgresSource(std::shared_ptr<Target> target) : target_(std::move(target)) {}

  std::unique_ptr<Database> connect() override { return std::make_unique<Postgres>(target_); }
  bool shared() const override { return true; }
  size_t writers() const override { return 4; }
  std::string name() const override { return target_->name; }

  void listen(const std::stop_token& stop, const std::function<void(const std::string&)>& heard) override {
    const StopSignal signal(stop);
    milliseconds pause(100);
    while (!stop.stop_requested()) {
      const Connection connection = target_->try_connect();
      const Result listening(PQexec(connection.get(), kListen));
      if (PQresultStatus(listening.get()) != PGRES_COMMAND_OK) {
        signal.wait(-1, pause);
        pause = std::min(2 * pause, milliseconds(1000));
        continue;
      }
      pause = milliseconds(100);
      heard("");
      hear(connection.get(), signal, stop, heard);
    }
  }

 private:
  /// Until the connection is lost, or there is something to stop.
  static void hear(PGconn* connection, const StopSignal& signal, const std::stop_token& stop,
                   const std::function<void(const std::string&)>& heard) {
    while (!stop.stop_requested()) {
      if (PQconsumeInput(connection) == 0) return;
      while (PGnotify* notify = PQnotifies(connection)) {
        const std::unique_ptr<PGnotify, void (*)(void*)> freed(notify, PQfreemem);
        heard(notify->extra);
      }
      signal.wait(PQsocket(connection));
    }
  }

  std::shared_ptr<Target> target_;
};

}  // namespace

std::unique_ptr<DatabaseSource> postgres_source(const std::string& connection, milliseconds patience) {
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(connection.c_str(), nullptr), PQconninfoFree);  // its own message would quote the password
  if (!options) throw user_error("--database: not a connection string such as postgresql://user@host/name");
  auto target = std::make_shared<Target>();
  target->connection = connection;
  target->patience = patience;
  std::string host;
  std::string database;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    const std::string_view key = option->keyword;
    if (key == "password") target->password = option->val;
    if (key == "host") host = option->val;
    if (key == "dbname") database = option->val;
  }
  target->name = fmt::format("PostgreSQL{}{}{}{}", database.empty() ? "" : " database ", database,
                             host.empty() ? "" : " at ", host);
  return std::make_unique<PostgresSource>(std::move(target));
}

}  // namespace heartmula

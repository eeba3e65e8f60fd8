#include "serve/database.h"

#include <condition_variable>
#include <mutex>

#include "base/error.h"

namespace heartmula {
namespace {

template <typename T>
const T& value_as(const SqlValues& values, size_t column, const char* type) {
  const T* value = std::get_if<T>(&values.at(column));
  if (value == nullptr) throw failure("the database's column {} is not {}: is it another program's?", column, type);
  return *value;
}

}  // namespace

int64_t SqlRow::integer(size_t column) const {
  return value_as<int64_t>(values_, column, "a whole number");
}

std::optional<int64_t> SqlRow::maybe_integer(size_t column) const {
  if (is_null(column)) return std::nullopt;
  return integer(column);
}

std::optional<double> SqlRow::maybe_real(size_t column) const {
  if (is_null(column)) return std::nullopt;
  return value_as<double>(values_, column, "a number");
}

const std::string& SqlRow::text(size_t column) const {
  return value_as<std::string>(values_, column, "a text");
}

const Blob& SqlRow::blob(size_t column) const {
  return value_as<Blob>(values_, column, "bytes");
}

struct ConnectionPool::State {
  DatabaseSource& source;
  const size_t most;
  std::mutex mutex;
  std::condition_variable returned;
  std::vector<std::unique_ptr<Database>> free;
  size_t in_use = 0;
};

ConnectionPool::ConnectionPool(DatabaseSource& source, size_t most)
    : state_(new State{.source = source, .most = most, .mutex = {}, .returned = {}, .free = {}}) {
  state_->free.reserve(most);  // giving back allocates nothing
}

ConnectionPool::~ConnectionPool() = default;

std::unique_ptr<Database> ConnectionPool::take() {
  {
    std::unique_lock lock(state_->mutex);
    state_->returned.wait(lock, [&] { return state_->in_use < state_->most; });
    ++state_->in_use;
    if (!state_->free.empty()) {
      std::unique_ptr<Database> connection = std::move(state_->free.back());
      state_->free.pop_back();
      return connection;
    }
  }
  try {
    return state_->source.connect();
  } catch (...) {
    give_back(nullptr);
    throw;
  }
}

void ConnectionPool::give_back(std::unique_ptr<Database> connection) noexcept {
  {
    const std::scoped_lock lock(state_->mutex);
    --state_->in_use;
    if (connection) state_->free.push_back(std::move(connection));
  }
  state_->returned.notify_one();
}

}  // namespace heartmula

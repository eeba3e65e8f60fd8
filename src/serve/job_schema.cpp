#include "serve/job_schema.h"

#include <array>
#include <span>

#include "base/error.h"

namespace heartmula {
namespace {

// `number` orders the queue and the list; the row of `numbers` has the last one, and who adds jobs holds it, so that
// numbers appear in their order. `fruitless`: workers that died on it since the last new frame. `search_...`: folded
// for comparison. `spent`: frames of jobs that were removed, which count for an hour.
constexpr std::array kVersion1 = {
    R"(CREATE TABLE songs (
         id TEXT PRIMARY KEY,
         number BIGINT NOT NULL UNIQUE,
         set_id TEXT NOT NULL,
         variation BIGINT NOT NULL,
         state TEXT NOT NULL,
         title TEXT NOT NULL,
         favourite BIGINT NOT NULL DEFAULT 0,
         owner TEXT NOT NULL,
         request TEXT NOT NULL,
         begin_song TEXT,
         begin_to_ms BIGINT,
         created_ms BIGINT NOT NULL,
         started_ms BIGINT,
         ended_ms BIGINT,
         begin_frames BIGINT NOT NULL,
         frames BIGINT NOT NULL,
         max_frames BIGINT NOT NULL,
         stage TEXT NOT NULL DEFAULT '',
         stage_done BIGINT NOT NULL DEFAULT 0,
         stage_total BIGINT NOT NULL DEFAULT 0,
         seconds_left DOUBLE PRECISION,
         audio_seconds DOUBLE PRECISION NOT NULL DEFAULT 0,
         worker TEXT NOT NULL DEFAULT '',
         attempt BIGINT NOT NULL DEFAULT 0,
         fruitless BIGINT NOT NULL DEFAULT 0,
         lease_until_ms BIGINT,
         cancel_requested BIGINT NOT NULL DEFAULT 0,
         error TEXT NOT NULL DEFAULT '',
         result TEXT NOT NULL DEFAULT '',
         fingerprint TEXT NOT NULL,
         search_title TEXT NOT NULL,
         search_text TEXT NOT NULL))",
    "CREATE INDEX songs_by_state ON songs (state, number)",
    "CREATE INDEX songs_by_set ON songs (set_id)",
    "CREATE INDEX songs_by_owner ON songs (owner, created_ms)",
    R"(CREATE TABLE frames (
         song TEXT NOT NULL REFERENCES songs (id) ON DELETE CASCADE,
         first BIGINT NOT NULL,
         codes BYTEA NOT NULL,
         PRIMARY KEY (song, first)))",
    R"(CREATE TABLE audio (
         song TEXT NOT NULL REFERENCES songs (id) ON DELETE CASCADE,
         format TEXT NOT NULL,
         data BYTEA NOT NULL,
         PRIMARY KEY (song, format)))",
    "CREATE TABLE spent (owner TEXT NOT NULL, created_ms BIGINT NOT NULL, frames BIGINT NOT NULL)",
    "CREATE INDEX spent_by_owner ON spent (owner, created_ms)",
    "CREATE TABLE numbers (last BIGINT NOT NULL)",
    "INSERT INTO numbers (last) VALUES (0)",
};

// Each brings a database from the version before it to its own. What was released is never changed.
constexpr std::array<std::span<const char* const>, 1> kMigrations = {kVersion1};

}  // namespace

void migrate_jobs(Database& database, const std::string& name) {
  database.transaction(Durability::kDurable, [&](Database& open) {
    if (!open.dialect().schema_lock.empty()) open.run(std::string(open.dialect().schema_lock));
    open.run("CREATE TABLE IF NOT EXISTS heartmula_version (version BIGINT NOT NULL)");
    const SqlRows rows = open.run("SELECT version FROM heartmula_version");
    int64_t version = rows.empty() ? 0 : rows[0].integer(0);
    constexpr auto kNewest = static_cast<int64_t>(kMigrations.size());
    if (version == kNewest) return;
    if (version < 0 || version > kNewest) {
      throw user_error("{}: a newer heartmula made this database (version {}; this one knows {})", name, version,
                       kNewest);
    }
    for (; version < kNewest; ++version) {
      for (const char* statement : kMigrations[static_cast<size_t>(version)]) open.run(statement);
    }
    open.run("DELETE FROM heartmula_version");
    open.run("INSERT INTO heartmula_version (version) VALUES ($1)", {version});
  });
}

}  // namespace heartmula

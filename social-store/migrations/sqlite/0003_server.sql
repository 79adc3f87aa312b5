-- Small records of the server and what workers share. docs/schema.md explains every table and column.

CREATE TABLE api_keys (
    id           BLOB    NOT NULL PRIMARY KEY,
    user_id      BLOB    NOT NULL,
    name         TEXT    NOT NULL,
    hash         BLOB    NOT NULL,
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;

CREATE TABLE idempotency_keys (
    user_id     BLOB    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint BLOB    NOT NULL,
    begun_at    INTEGER NOT NULL,
    status      INTEGER,
    body        BLOB,
    PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_begun ON idempotency_keys (begun_at);

CREATE TABLE rate_buckets (
    key           TEXT    NOT NULL PRIMARY KEY,
    window_start  INTEGER NOT NULL,
    window_end    INTEGER NOT NULL,
    used          INTEGER NOT NULL,
    allowed       INTEGER NOT NULL,
    blocked_until INTEGER,
    changed_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX rate_buckets_changed ON rate_buckets (changed_at);

CREATE TABLE key_canaries (
    key_id TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Users, their grants and the places where their posts can appear. docs/schema.md explains every table and column.

CREATE TABLE users (
    id         BLOB    NOT NULL PRIMARY KEY,
    email      TEXT    NOT NULL UNIQUE,
    plan       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Listed in the order of their making.
CREATE INDEX users_made ON users (created_at, id);

CREATE TABLE connections (
    id                  BLOB    NOT NULL PRIMARY KEY,
    user_id             BLOB    NOT NULL,
    platform            TEXT    NOT NULL,
    preset              TEXT    NOT NULL,
    remote_user         TEXT    NOT NULL,
    status              TEXT    NOT NULL,
    requested_scopes    TEXT    NOT NULL,
    granted_scopes      TEXT    NOT NULL,
    expires_at          INTEGER,
    refresh_expires_at  INTEGER,
    refreshable         INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    tokens              BLOB    NOT NULL,
    key_id              TEXT    NOT NULL,
    previous_tokens     BLOB,
    replaced_at         INTEGER,
    refresh_lease_until INTEGER,
    refresh_intent_at   INTEGER,
    refresh_failures    INTEGER NOT NULL DEFAULT 0,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL
) STRICT;

CREATE INDEX connections_of_user ON connections (user_id, platform, remote_user);
CREATE INDEX connections_expiring ON connections (expires_at) WHERE expires_at IS NOT NULL AND status <> 'needs_reconnect';
CREATE INDEX connections_by_key ON connections (key_id, id);

-- `connection_id` is no foreign key: an account outlives the grant that it was reached through.
CREATE TABLE social_accounts (
    id            BLOB    NOT NULL PRIMARY KEY,
    user_id       BLOB    NOT NULL,
    connection_id BLOB    NOT NULL,
    platform      TEXT    NOT NULL,
    remote_id     TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    handle        TEXT,
    display_name  TEXT    NOT NULL,
    avatar_url    TEXT,
    attributes    TEXT    NOT NULL,
    status        TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    UNIQUE (user_id, platform, remote_id),
    UNIQUE (id, user_id)
) STRICT;

CREATE INDEX social_accounts_of_connection ON social_accounts (connection_id);

CREATE TABLE pending_authorizations (
    key        BLOB    NOT NULL PRIMARY KEY,
    user_id    BLOB    NOT NULL,
    platform   TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX pending_authorizations_ending ON pending_authorizations (expires_at);

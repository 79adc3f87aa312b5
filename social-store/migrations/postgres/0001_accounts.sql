-- Users, their grants and the places where their posts can appear. docs/schema.md explains every table and column.

CREATE TABLE users (
    id         UUID        NOT NULL PRIMARY KEY,
    email      TEXT        NOT NULL UNIQUE,
    plan       TEXT        NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- Listed in the order of their making.
CREATE INDEX users_made ON users (created_at, id);

CREATE TABLE connections (
    id                  UUID        NOT NULL PRIMARY KEY,
    user_id             UUID        NOT NULL,
    platform            TEXT        NOT NULL,
    preset              TEXT        NOT NULL,
    remote_user         TEXT        NOT NULL,
    status              TEXT        NOT NULL,
    requested_scopes    JSON        NOT NULL,
    granted_scopes      JSON        NOT NULL,
    expires_at          TIMESTAMPTZ,
    refresh_expires_at  TIMESTAMPTZ,
    refreshable         BOOLEAN     NOT NULL,
    version             BIGINT      NOT NULL,
    tokens              BYTEA       NOT NULL,
    key_id              TEXT        NOT NULL,
    previous_tokens     BYTEA,
    replaced_at         TIMESTAMPTZ,
    refresh_lease_until TIMESTAMPTZ,
    refresh_intent_at   TIMESTAMPTZ,
    refresh_failures    BIGINT      NOT NULL DEFAULT 0,
    created_at          TIMESTAMPTZ NOT NULL,
    updated_at          TIMESTAMPTZ NOT NULL
);

CREATE INDEX connections_of_user ON connections (user_id, platform, remote_user);
CREATE INDEX connections_expiring ON connections (expires_at) WHERE expires_at IS NOT NULL AND status <> 'needs_reconnect';
CREATE INDEX connections_by_key ON connections (key_id, id);

-- `connection_id` is no foreign key: an account outlives the grant that it was reached through.
CREATE TABLE social_accounts (
    id            UUID        NOT NULL PRIMARY KEY,
    user_id       UUID        NOT NULL,
    connection_id UUID        NOT NULL,
    platform      TEXT        NOT NULL,
    remote_id     TEXT        NOT NULL,
    kind          TEXT        NOT NULL,
    handle        TEXT,
    display_name  TEXT        NOT NULL,
    avatar_url    TEXT,
    attributes    JSON        NOT NULL,
    status        TEXT        NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    updated_at    TIMESTAMPTZ NOT NULL,
    UNIQUE (user_id, platform, remote_id),
    UNIQUE (id, user_id)
);

CREATE INDEX social_accounts_of_connection ON social_accounts (connection_id);

CREATE TABLE pending_authorizations (
    key        BYTEA       NOT NULL PRIMARY KEY,
    user_id    UUID        NOT NULL,
    platform   TEXT        NOT NULL,
    sealed     BYTEA       NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX pending_authorizations_ending ON pending_authorizations (expires_at);

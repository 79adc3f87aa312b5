-- Small records of the server and what workers share. docs/schema.md explains every table and column.

CREATE TABLE api_keys (
    id           UUID        NOT NULL PRIMARY KEY,
    user_id      UUID        NOT NULL,
    name         TEXT        NOT NULL,
    hash         BYTEA       NOT NULL,
    scopes       JSON        NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);

CREATE TABLE idempotency_keys (
    user_id     UUID        NOT NULL,
    key         TEXT        NOT NULL,
    fingerprint BYTEA       NOT NULL,
    begun_at    TIMESTAMPTZ NOT NULL,
    status      BIGINT,
    body        BYTEA,
    PRIMARY KEY (user_id, key)
);

CREATE INDEX idempotency_keys_begun ON idempotency_keys (begun_at);

CREATE TABLE rate_buckets (
    key           TEXT        NOT NULL PRIMARY KEY,
    window_start  TIMESTAMPTZ NOT NULL,
    window_end    TIMESTAMPTZ NOT NULL,
    used          BIGINT      NOT NULL,
    allowed       BIGINT      NOT NULL,
    blocked_until TIMESTAMPTZ,
    changed_at    TIMESTAMPTZ NOT NULL
);

CREATE INDEX rate_buckets_changed ON rate_buckets (changed_at);

CREATE TABLE key_canaries (
    key_id TEXT        NOT NULL PRIMARY KEY,
    sealed BYTEA       NOT NULL
);

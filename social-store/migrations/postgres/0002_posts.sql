-- Posts, their deliveries and the history. docs/schema.md explains every table and column.

CREATE TABLE posts (
    id                      UUID        NOT NULL PRIMARY KEY,
    user_id                 UUID        NOT NULL,
    content                 TEXT        NOT NULL,
    draft                   JSON        NOT NULL,
    media_url               TEXT,
    scheduled_time          TIMESTAMPTZ NOT NULL,
    local_time              TEXT,
    time_zone               TEXT,
    status                  TEXT        NOT NULL,
    idempotency_key         TEXT,
    idempotency_fingerprint BYTEA,
    created_at              TIMESTAMPTZ NOT NULL,
    updated_at              TIMESTAMPTZ NOT NULL,
    UNIQUE (id, user_id)
);

CREATE INDEX posts_of_user ON posts (user_id, scheduled_time, id);
CREATE UNIQUE INDEX posts_by_key ON posts (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- The foreign keys carry the user along, so that a delivery cannot join a post and an account of different users.
CREATE TABLE deliveries (
    id               UUID        NOT NULL PRIMARY KEY,
    post_id          UUID        NOT NULL,
    user_id          UUID        NOT NULL,
    account_id       UUID        NOT NULL,
    platform         TEXT        NOT NULL,
    position         BIGINT      NOT NULL,
    phase            TEXT        NOT NULL,
    checkpoint       JSON,
    attempt          BIGINT      NOT NULL DEFAULT 0,
    crashes          BIGINT      NOT NULL DEFAULT 0,
    epoch            BIGINT      NOT NULL DEFAULT 0,
    worker           TEXT,
    lease_until      TIMESTAMPTZ,
    due_at           TIMESTAMPTZ NOT NULL,
    wake_at          TIMESTAMPTZ,
    late_limit_us    BIGINT      NOT NULL,
    committing_since TIMESTAMPTZ,
    parts            JSON,
    error            TEXT,
    remote_id        TEXT,
    permalink        TEXT,
    published_at     TIMESTAMPTZ,
    updated_at       TIMESTAMPTZ NOT NULL,
    UNIQUE (post_id, position),
    FOREIGN KEY (post_id, user_id) REFERENCES posts (id, user_id),
    FOREIGN KEY (account_id, user_id) REFERENCES social_accounts (id, user_id)
) WITH (
    -- Rows change several times and then never again: room on the page, and tidying up before dead entries pile up at the head of the queue.
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0.02
);

-- What can be claimed, by network; nothing that is held, at rest or history is in it.
CREATE INDEX deliveries_claim ON deliveries (platform, wake_at) WHERE lease_until IS NULL AND wake_at IS NOT NULL;
-- What is held, by the end of the lease.
CREATE INDEX deliveries_lease ON deliveries (lease_until) WHERE lease_until IS NOT NULL;
-- Which accounts somebody works on.
CREATE INDEX deliveries_busy ON deliveries (account_id, worker) WHERE lease_until IS NOT NULL;
-- What an account still waits for.
CREATE INDEX deliveries_waiting ON deliveries (account_id, due_at)
    WHERE phase IN ('scheduled', 'preparing', 'ready', 'retrying', 'awaiting_reconnect', 'awaiting_limit');
-- What is open, for counting; the first column is there because of the others.
CREATE INDEX deliveries_open ON deliveries (platform, phase) WHERE phase NOT IN ('published', 'failed', 'missed', 'canceled');
-- What an account has out.
CREATE INDEX deliveries_out ON deliveries (account_id, updated_at) WHERE remote_id IS NOT NULL OR parts IS NOT NULL;

-- `seq` is the order of writing. No foreign keys: the history outlives what it tells about.
CREATE TABLE post_logs (
    seq         BIGINT      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          UUID        NOT NULL,
    post_id     UUID        NOT NULL,
    delivery_id UUID        NOT NULL,
    user_id     UUID        NOT NULL,
    platform    TEXT        NOT NULL,
    event       TEXT        NOT NULL,
    success     BOOLEAN,
    attempt     BIGINT      NOT NULL,
    response    JSON        NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    UNIQUE (user_id, id)
);

CREATE INDEX post_logs_of_user ON post_logs (user_id, seq);
CREATE INDEX post_logs_of_post ON post_logs (post_id, user_id, seq);

CREATE TABLE media (
    id          UUID        NOT NULL PRIMARY KEY,
    user_id     UUID        NOT NULL,
    kind        TEXT        NOT NULL,
    mime        TEXT        NOT NULL,
    size_bytes  BIGINT      NOT NULL,
    width       BIGINT,
    height      BIGINT,
    duration_ms BIGINT,
    facts       JSON        NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL
);

CREATE INDEX media_of_user ON media (user_id, size_bytes);

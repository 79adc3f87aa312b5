-- What was deleted on its network after it was published. docs/schema.md explains every table and column.

CREATE TABLE remote_deletions (
    delivery_id UUID        NOT NULL PRIMARY KEY,
    user_id     UUID        NOT NULL,
    deleted_at  TIMESTAMPTZ NOT NULL
);

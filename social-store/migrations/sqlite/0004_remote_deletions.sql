-- What was deleted on its network after it was published. docs/schema.md explains every table and column.

CREATE TABLE remote_deletions (
    delivery_id BLOB    NOT NULL PRIMARY KEY,
    user_id     BLOB    NOT NULL,
    deleted_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

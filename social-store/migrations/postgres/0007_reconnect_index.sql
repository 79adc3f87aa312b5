-- What waits for a reconnect, and no longer everything that an account waits for: every post went into that index and out of it again.
-- The next migration drops the old one.
CREATE INDEX deliveries_reconnect ON deliveries (account_id) WHERE phase = 'awaiting_reconnect';
-- A post gets a new status when it is out. With room for that beside it, none of the table's indexes is touched.
ALTER TABLE posts SET (fillfactor = 50);

-- What waits for a reconnect, and no longer everything that an account waits for: every post went into that index and out of it again, at
-- a page of its own each time. The next migration drops the old one.
CREATE INDEX deliveries_reconnect ON deliveries (account_id) WHERE phase = 'awaiting_reconnect';

-- What an account has, whatever its phase: no change of a delivery touches it. It replaces two that every post went into and out of, at a
-- page of its own each time. The user stands first so that no claim takes it for `deliveries_busy`.
CREATE INDEX deliveries_of_account ON deliveries (user_id, account_id);
DROP INDEX deliveries_waiting;
DROP INDEX deliveries_out;

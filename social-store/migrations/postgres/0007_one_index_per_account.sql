-- What an account has, whatever its phase: no change of a delivery touches it. The next migration drops the two that it replaces.
-- The user stands first so that no claim takes it for `deliveries_busy`.
CREATE INDEX deliveries_of_account ON deliveries (user_id, account_id);

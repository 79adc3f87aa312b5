-- What 0005 has replaced.
DROP INDEX deliveries_open;
-- The few that are held are all looked through for those whose lease has ended.
DROP INDEX deliveries_lease;

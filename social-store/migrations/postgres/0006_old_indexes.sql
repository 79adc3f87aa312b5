-- What 0005 has replaced. The table is locked first, as dropping locks it, and for a moment only.
LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE;
DROP INDEX deliveries_claim;
DROP INDEX deliveries_open;
-- The few that are held are all looked through, by `deliveries_busy`, for those whose lease has ended.
DROP INDEX deliveries_lease;

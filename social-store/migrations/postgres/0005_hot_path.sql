-- Fewer indexes to write per post. Each change of a delivery pays for every index that holds one of the changed columns.
-- The new indexes come first, under names of their own: while they are built, writers wait and readers go on with the old ones. Dropping
-- one shuts everybody out of the table until the migration has ended, so that comes last.

-- What can be claimed, by network; nothing that is held, at rest or history is in it. The phase is there for counting.
CREATE INDEX deliveries_claimable ON deliveries (platform, wake_at, phase) WHERE lease_until IS NULL AND wake_at IS NOT NULL;
-- What waits for somebody, for counting. What is at work is in neither; there is little of it, and `deliveries_busy` finds it.
CREATE INDEX deliveries_parked ON deliveries (platform, phase)
    WHERE lease_until IS NULL AND wake_at IS NULL AND phase NOT IN ('published', 'failed', 'missed', 'canceled');
DROP INDEX deliveries_claim;
DROP INDEX deliveries_open;
-- The few that are held are all looked through, by `deliveries_busy`, for those whose lease has ended.
DROP INDEX deliveries_lease;

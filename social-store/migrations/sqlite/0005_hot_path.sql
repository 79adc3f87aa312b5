-- Fewer indexes to write per post. Each change of a delivery pays for every index that holds one of the changed columns.

-- What can be claimed, by network; nothing that is held, at rest or history is in it. The phase is there for counting,
-- and the lease, which is always null, because SQLite looks at a condition's columns before it calls an index covering.
-- The name stays: processes with the older schema ask for it.
DROP INDEX deliveries_claim;
CREATE INDEX deliveries_claim ON deliveries (platform, wake_at, phase, lease_until) WHERE lease_until IS NULL AND wake_at IS NOT NULL;
-- What waits for somebody, for counting. What is at work is in neither; there is little of it, and `deliveries_busy` finds it.
CREATE INDEX deliveries_parked ON deliveries (platform, phase, lease_until, wake_at)
    WHERE lease_until IS NULL AND wake_at IS NULL AND phase NOT IN ('published', 'failed', 'missed', 'canceled');

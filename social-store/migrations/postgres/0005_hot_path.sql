-- Fewer indexes to write per post. Each change of a delivery pays for every index that holds one of the changed columns.
-- The new ones have names of their own, and the next migration drops the old ones: while these are built, writers wait and readers go on.
-- In one transaction, dropping would ask for a stronger lock than building has, and deadlock with the claims that wait.

-- What can be claimed, by network; nothing that is held, at rest or history is in it. The phase is there for counting.
CREATE INDEX deliveries_claimable ON deliveries (platform, wake_at, phase) WHERE lease_until IS NULL AND wake_at IS NOT NULL;
-- What waits for somebody, for counting. What is at work is in neither; there is little of it, and `deliveries_busy` finds it.
CREATE INDEX deliveries_parked ON deliveries (platform, phase)
    WHERE lease_until IS NULL AND wake_at IS NULL AND phase NOT IN ('published', 'failed', 'missed', 'canceled');

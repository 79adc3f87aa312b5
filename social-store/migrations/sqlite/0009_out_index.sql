-- What is out, in the order of going out. By account first, every post dirtied a page of its own at a place that nothing else was near.
DROP INDEX deliveries_out;
CREATE INDEX deliveries_out ON deliveries (updated_at, account_id) WHERE remote_id IS NOT NULL OR parts IS NOT NULL;

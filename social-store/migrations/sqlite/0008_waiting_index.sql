-- What 0007 has replaced.
DROP INDEX deliveries_waiting;

-- What 0007 has replaced. The table is locked first, as dropping locks it, and for a moment only.
LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE;
DROP INDEX deliveries_waiting;

-- Only SQLite needs something here.
SELECT 1;

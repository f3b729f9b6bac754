-- Tables with small and large values in memory, changed, thinned out, indexed, and written to a file.
-- The same rows in every run.
.bail on
PRAGMA cache_size = -65536;
PRAGMA temp_store = MEMORY;
CREATE TABLE parts (id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, body BLOB);
CREATE TABLE large (id INTEGER PRIMARY KEY, body BLOB);
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 40000)
  INSERT INTO parts
  SELECT n, n % 97, printf('part %d of %d', n, n * n % 1009),
         CAST(printf('%.*c%d', n * 7919 % 2000, char(65 + n % 26), n) AS BLOB)
  FROM numbers;
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 24)
  INSERT INTO large SELECT n, CAST(printf('%.*c%d', n * 100003, char(97 + n), n) AS BLOB) FROM numbers;
CREATE INDEX parts_by_kind ON parts (kind, name);
UPDATE parts SET body = CAST(body || printf('%.*c', n_bytes, '+') AS BLOB)
  FROM (SELECT id AS other, id % 700 AS n_bytes FROM parts) WHERE parts.id = other AND kind % 3 = 0;
DELETE FROM parts WHERE kind % 5 = 1;
DELETE FROM large WHERE id % 2 = 0;
REINDEX;
CREATE TABLE sorted AS SELECT kind, count(*) AS rows, sum(length(body)) AS bytes, group_concat(name, ',') AS names
  FROM (SELECT * FROM parts ORDER BY length(body), name) GROUP BY kind ORDER BY bytes DESC;
UPDATE large SET body = CAST(body || body AS BLOB);
VACUUM;
BEGIN;
DELETE FROM parts;
DELETE FROM large;
ROLLBACK;
PRAGMA integrity_check;
SELECT count(*), sum(length(body)), max(name) FROM parts;
SELECT count(*), sum(length(body)) FROM large;
SELECT sum(rows), sum(bytes), sum(length(names)) FROM sorted;
.sha3sum
VACUUM INTO 'written.db';
DELETE FROM large;
DROP TABLE parts;
VACUUM;
ATTACH 'written.db' AS written;
PRAGMA written.integrity_check;

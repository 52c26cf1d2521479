CREATE TABLE kinds (id TEXT PRIMARY KEY, label TEXT, weight NUMERIC, made TIMESTAMPTZ, since TIMESTAMP);
INSERT INTO kinds VALUES ('a', 'A', 1.5, now(), now());
CREATE TABLE tags (kind TEXT, tag TEXT, PRIMARY KEY (kind, tag));
INSERT INTO tags VALUES ('a', 'x'), ('a', 'y');
CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT, hp INTEGER, coins NUMERIC, is_on BOOLEAN, likes JSONB, seen BIGINT,
    at TIMESTAMPTZ, since TIMESTAMP, more JSONB, ends TIMESTAMPTZ);
INSERT INTO players (id, hp) VALUES (1, 1), (2, 2);
INSERT INTO players (id, hp, ends) VALUES (3, 1, now() - interval '5 minutes'), (4, 1, now() - interval '2 days');
CREATE TABLE sessions (sid UUID PRIMARY KEY, data VARCHAR(40), made TIMESTAMP);
INSERT INTO sessions VALUES ('00000000-0000-0000-0000-0000000000ff', 'd', now());
CREATE TABLE counters (id INTEGER PRIMARY KEY, whole INTEGER, part DOUBLE PRECISION, exact NUMERIC, word TEXT, more TEXT DEFAULT '{}');
CREATE TABLE pairs (a VARCHAR(20), b SMALLINT, v TEXT, PRIMARY KEY (a, b));
INSERT INTO pairs SELECT 'x', i, 'v' FROM generate_series(1, 5001) AS i;
CREATE TABLE zoned (id TEXT PRIMARY KEY, data TEXT, ends TIMESTAMP);
INSERT INTO zoned VALUES ('ended', 'd', (now() AT TIME ZONE 'America/New_York') - interval '5 minutes');
CREATE TABLE members (id BIGINT, v TEXT, PRIMARY KEY (id, v));
CREATE TABLE elements (at BIGSERIAL, id BIGINT, v TEXT);
ALTER DATABASE postgres SET timezone = 'America/New_York';

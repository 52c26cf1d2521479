CREATE TABLE kinds (id TEXT PRIMARY KEY, label TEXT, weight NUMERIC, tags JSON, made TIMESTAMP);
INSERT INTO kinds VALUES ('a', 'A', 1.5, '[]', '2026-01-01 00:00:00');
CREATE TABLE tags (kind TEXT, tag TEXT, PRIMARY KEY (kind, tag));
INSERT INTO tags VALUES ('a', 'x'), ('a', 'y');
CREATE TABLE players (id INTEGER PRIMARY KEY, name TEXT, hp INTEGER, coins REAL, is_on BOOLEAN, likes JSON, seen BIGINT,
    at DATETIME, more JSON, ends TIMESTAMP);
INSERT INTO players (id, hp) VALUES (1, 1), (2, 2);
INSERT INTO players (id, hp, ends) VALUES (3, 1, '2026-01-01 00:00:00');
CREATE TABLE sessions (sid TEXT PRIMARY KEY, data VARCHAR(40), made TIMESTAMP);
CREATE TABLE pairs (a TEXT, b INTEGER, v TEXT, PRIMARY KEY (a, b));
INSERT INTO pairs VALUES ('x', 1, 'v');
CREATE TABLE members (id INTEGER, v TEXT, PRIMARY KEY (id, v));
CREATE TABLE elements (at INTEGER PRIMARY KEY, id INTEGER, v TEXT);

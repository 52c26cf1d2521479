-- The outbox of Hearthside (store.feed = "outbox"), by the owner of the schema hearthside, to be run as often as one likes.
-- Triggers add rows to one table after the other, a minute each, while a sidecar reads them. Whoever writes a watched
-- table runs its triggers, and needs to be allowed this.
CREATE UNLOGGED TABLE IF NOT EXISTS hearthside.outbox_0 (xid xid8 NOT NULL, told text NOT NULL)
    WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
CREATE UNLOGGED TABLE IF NOT EXISTS hearthside.outbox_1 (xid xid8 NOT NULL, told text NOT NULL)
    WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
CREATE UNLOGGED TABLE IF NOT EXISTS hearthside.outbox_2 (xid xid8 NOT NULL, told text NOT NULL)
    WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
CREATE INDEX IF NOT EXISTS outbox_0_xid ON hearthside.outbox_0 (xid);
CREATE INDEX IF NOT EXISTS outbox_1_xid ON hearthside.outbox_1 (xid);
CREATE INDEX IF NOT EXISTS outbox_2_xid ON hearthside.outbox_2 (xid);
GRANT USAGE ON SCHEMA hearthside TO PUBLIC;
GRANT INSERT ON hearthside.outbox_0, hearthside.outbox_1, hearthside.outbox_2 TO PUBLIC;

-- Empties the table whose turn is next, or this one, if it holds nothing but what the snapshot `seen` sees; true when it
-- did. What is emptied says so in a row, for those who have not read so far as `seen`. Nobody waits for it for long.
CREATE OR REPLACE FUNCTION hearthside.clean_outbox(seen pg_snapshot, which int DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '20ms' AS $body$
DECLARE
    emptied text := format('hearthside.outbox_%s',
                           coalesce(which, (date_part('minute', clock_timestamp())::int + 1) % 3));
    is_so boolean;
BEGIN
    -- What is looked for behind the lock must be what is there then, and not what there was when the transaction began.
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'hearthside.clean_outbox cannot be called in a transaction with the isolation level %',
                        upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state',
                  DETAIL = 'It would not see rows that were added since the transaction began, and would drop them.',
                  HINT = 'Call it in a transaction of its own: BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE told NOT LIKE ''{"cleaned"%%'')', emptied) INTO is_so;
    IF NOT is_so THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', emptied);
    -- A transaction to come has written nothing: such a row is another server's, from a dump, and read again and again.
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE xid >= pg_snapshot_xmax($1) '
                   'AND xid < pg_snapshot_xmax(pg_current_snapshot()) '
                   'OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($1))))', emptied) INTO is_so USING seen;
    IF is_so THEN
        RETURN false;
    END IF;
    EXECUTE format('TRUNCATE %s', emptied);
    EXECUTE format('INSERT INTO %s (xid, told) VALUES (pg_current_xact_id(), $1)', emptied)
        USING format('{"cleaned":"%s"}', seen);
    RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN false;
END
$body$;
REVOKE EXECUTE ON FUNCTION hearthside.clean_outbox(pg_snapshot, int) FROM PUBLIC;


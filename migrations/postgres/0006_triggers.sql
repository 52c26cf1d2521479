-- Change triggers call a generated function of their table (`hearthside triggers`); attach() makes those that a table,
-- its partitions and its inheritance children lack.

-- The function of the triggers that version 0.2 made goes on serving them, and no longer fails the statement that
-- fired it: what goes wrong is told as the whole mapping. The text of a key does not depend on the writer's session.
CREATE OR REPLACE FUNCTION hearthside.changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, MDY' SET IntervalStyle = 'postgres' SET TimeZone = 'UTC'
SET bytea_output = 'hex' SET extra_float_digits = 1
AS $body$
DECLARE
    whole text;
    most_keys constant int := 1000;     -- a statement that touches more is told as the whole mapping
    most_bytes constant int := 7000;    -- a NOTIFY payload holds less than 8000 bytes
    expression text;
    source text;
    keys text[];
    key text;
    piece text;
    batch text := '';
    -- Whose write this is, where a sidecar's write did it and no trigger of the table's owner.
    origin text;
    ending text;
BEGIN
    whole := json_build_object('mapping', TG_ARGV[0])::text;
    expression := quote_literal(TG_ARGV[1]);
    origin := CASE WHEN pg_trigger_depth() = 1 THEN nullif(current_setting('hearthside.origin', true), '') END;
    ending := CASE WHEN origin IS NULL THEN ']}' ELSE '],"from":' || to_json(origin)::text || '}' END;
    IF TG_OP = 'TRUNCATE' OR TG_NARGS = 1 THEN
        PERFORM pg_notify('hearthside', whole);
        RETURN NULL;
    END IF;
    FOR i IN 2 .. TG_NARGS - 1 BY 2 LOOP
        expression := expression || format(' || %I::text || %L', TG_ARGV[i], TG_ARGV[i + 1]);
    END LOOP;
    source := CASE TG_OP
        WHEN 'INSERT' THEN format('SELECT %s AS k FROM new_rows', expression)
        WHEN 'DELETE' THEN format('SELECT %s AS k FROM old_rows', expression)
        ELSE format('SELECT %1$s AS k FROM old_rows UNION ALL SELECT %1$s FROM new_rows', expression)
    END;
    EXECUTE format('SELECT array_agg(k) FROM (SELECT DISTINCT k COLLATE "C" AS k FROM (%s) AS r WHERE k IS NOT NULL '
                   'LIMIT %s) AS d', source, most_keys + 1) INTO keys;
    IF cardinality(keys) > most_keys THEN
        PERFORM pg_notify('hearthside', whole);
        RETURN NULL;
    END IF;
    FOREACH key IN ARRAY coalesce(keys, '{}') LOOP
        piece := to_json(key)::text;
        IF octet_length(piece) > most_bytes THEN
            PERFORM pg_notify('hearthside', whole);
            RETURN NULL;
        END IF;
        IF octet_length(batch) + octet_length(piece) > most_bytes THEN
            PERFORM pg_notify('hearthside', '{"keys":[' || batch || ending);
            batch := '';
        END IF;
        batch := concat_ws(',', nullif(batch, ''), piece);
    END LOOP;
    IF batch <> '' THEN
        PERFORM pg_notify('hearthside', '{"keys":[' || batch || ending);
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    BEGIN
        PERFORM pg_notify('hearthside', json_build_object('mapping', TG_ARGV[0], 'trouble', SQLSTATE)::text);
    EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'Hearthside cannot be told of a change: % (%)', SQLERRM, SQLSTATE;
    END;
    RETURN NULL;
END
$body$;

COMMENT ON FUNCTION hearthside.changed() IS 'What the change triggers of Hearthside 0.2 call';

-- Makes the triggers that call the function `called` of this schema, wherever they are missing or switched off: on the
-- table, its partitions and its inheritance children. Call it again when there is a new partition. Returns what it made.
-- A trigger of statements fires on the table that a statement names, so each needs its own. Nobody who reads waits for
-- this; who writes waits until the transaction ends.
CREATE OR REPLACE FUNCTION hearthside.attach(root regclass, called text) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    lacking record;
BEGIN
    FOR lacking IN
        WITH RECURSIVE below AS (
            SELECT root::oid AS relation
            UNION
            SELECT i.inhrelid FROM below JOIN pg_inherits AS i ON i.inhparent = below.relation
        )
        SELECT c.oid::regclass AS relation, e.event, e.rows, e.name, t.oid IS NOT NULL AS is_there
        FROM below JOIN pg_class AS c ON c.oid = below.relation
        CROSS JOIN (VALUES
            ('INSERT', 'ins', ' REFERENCING NEW TABLE AS new_rows'),
            ('UPDATE', 'upd', ' REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'),
            ('DELETE', 'del', ' REFERENCING OLD TABLE AS old_rows'),
            ('TRUNCATE', 'trn', '')
        ) AS known (event, ending, rows)
        CROSS JOIN LATERAL (
            SELECT known.event, known.rows,
                   replace(called, 'changed_', 'hearthside_') || '_' || known.ending AS name
        ) AS e
        LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = e.name
        -- Foreign tables take no transition tables; a temporary child is its own session's.
        WHERE (c.oid = root OR c.relkind IN ('r', 'p') AND c.relpersistence <> 't')
        AND coalesce(t.tgenabled NOT IN ('O', 'A'), true)
        ORDER BY c.oid = root DESC, c.oid
    LOOP
        IF lacking.is_there THEN
            EXECUTE format('ALTER TABLE ONLY %s ENABLE TRIGGER %I', lacking.relation, lacking.name);
        ELSE
            EXECUTE format('CREATE TRIGGER %I AFTER %s ON %s%s FOR EACH STATEMENT EXECUTE FUNCTION hearthside.%I()',
                           lacking.name, lacking.event, lacking.relation, lacking.rows, called);
        END IF;
        RETURN NEXT format('%s (%s)', lacking.relation, lacking.event);
    END LOOP;
END
$body$;

COMMENT ON FUNCTION hearthside.attach(regclass, text) IS 'Makes the change triggers that a table lacks';

-- A notice tells whose write it comes from: the sidecar that wrote has the new value in memory already.
-- The origin is a setting of the transaction; what triggers of the table's owner change is told without one.
CREATE OR REPLACE FUNCTION hearthside.changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    whole constant text := json_build_object('mapping', TG_ARGV[0])::text;
    most_keys constant int := 1000;     -- a statement that touches more is told as the whole mapping
    most_bytes constant int := 7000;    -- a NOTIFY payload holds less than 8000 bytes
    expression text := quote_literal(TG_ARGV[1]);
    source text;
    keys text[];
    key text;
    piece text;
    batch text := '';
    -- Whose write this is, where a sidecar's write did it and no trigger of the table's owner.
    origin constant text := CASE WHEN pg_trigger_depth() = 1 THEN nullif(current_setting('hearthside.origin', true), '') END;
    ending constant text := CASE WHEN origin IS NULL THEN ']}' ELSE '],"from":' || to_json(origin)::text || '}' END;
BEGIN
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
        ELSE format('SELECT %1$s AS k FROM old_rows UNION SELECT %1$s FROM new_rows', expression)
    END;
    EXECUTE format('SELECT array_agg(k) FROM (SELECT DISTINCT k FROM (%s) AS r WHERE k IS NOT NULL LIMIT %s) AS d',
                   source, most_keys + 1) INTO keys;
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
END
$body$;

COMMENT ON FUNCTION hearthside.changed() IS 'Tells Hearthside sidecars which keys a statement changed';

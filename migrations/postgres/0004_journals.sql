-- One row for each opening of a journal of deferred writes. It only rises: a flush is applied if its batch is higher
-- than both numbers, which it compares under the row's lock in the statement that applies it. So a statement that the
-- network delivers late changes nothing once something newer was applied, or once the next opening has raised the
-- fence; nor does a statement whose row is missing. Rows that were not used for 30 days are removed by whoever begins
-- to flush.
CREATE TABLE hearthside.journals (
    journal text        PRIMARY KEY,
    applied bigint      NOT NULL,                   -- the last batch that was applied; 0: none yet
    fence   bigint      NOT NULL,                   -- no batch up to this one will be applied any more
    at      timestamptz NOT NULL DEFAULT now(),     -- when it was used last
    CHECK (fence >= applied)
);

COMMENT ON TABLE hearthside.journals IS 'For each opening of a journal, the last batch of deferred writes applied';

-- Sidecars of before note their batches in hearthside.flushed, and go on doing so until they are replaced; what they
-- noted is looked up when their journal is taken over. Its rows go after 30 days too.
ALTER TABLE hearthside.flushed ADD COLUMN at timestamptz NOT NULL DEFAULT now();

COMMENT ON TABLE hearthside.flushed IS 'Batches that sidecars without the table journals have applied';

-- Who noted in the old table notes in the new one.
DO $$
DECLARE
    grantee oid;
BEGIN
    FOR grantee IN
        SELECT DISTINCT acl.grantee FROM pg_class, aclexplode(relacl) AS acl
        WHERE pg_class.oid = 'hearthside.flushed'::regclass AND acl.privilege_type = 'INSERT'
    LOOP
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON hearthside.journals TO %s',
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
        );
    END LOOP;
END $$;

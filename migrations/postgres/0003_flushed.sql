-- Which batches of deferred writes have been applied: each is noted in the transaction that applies it, so that a sidecar
-- that crashed in between knows, and nothing is applied twice. A sidecar keeps the note of its last batch only.
CREATE TABLE hearthside.flushed (
    journal text   NOT NULL,
    batch   bigint NOT NULL,
    PRIMARY KEY (journal, batch)
);

COMMENT ON TABLE hearthside.flushed IS 'Batches of deferred writes that Hearthside sidecars have applied';

//! How a trigger tells what it has to tell, as PL/pgSQL: it sends a notice; or it adds a row to one of the three tables
//! of the outbox, if somebody reads that now. Every name is given with its schema. Pure.
//!
//! Whoever reads the outbox holds an advisory lock (`store/postgres/feed/outbox`), so that a trigger which gets it in
//! share mode knows that nobody does. It lets it go at once: a sidecar that begins to read must get it, and not wait
//! for the writer's transaction.

use super::means::Means;

/// Two numbers that name the lock of whoever reads the outbox: "HEAR", "THSI".
pub(in crate::store) const READS: &str = "1212498258, 1414025033";

/// Where news belong: the number of a table, which is that of the minute modulo 3 (hours have a multiple of 3 minutes,
/// and time zones differ by such); -1 where nobody reads.
pub(super) const SLOT: &str = "CASE WHEN pg_catalog.pg_try_advisory_lock_shared(1212498258, 1414025033)
                AND pg_catalog.pg_advisory_unlock_shared(1212498258, 1414025033) THEN -1
            ELSE pg_catalog.date_part('minute', pg_catalog.clock_timestamp())::pg_catalog.int4
                OPERATOR(pg_catalog.%) 3 END";

/// Tells what the variable `news` holds to whom `slot` says.
pub(super) fn tell_by_slot() -> String {
    let insert = |table: u8| {
        format!("INSERT INTO hearthside.outbox_{table} (xid, told) VALUES (pg_catalog.pg_current_xact_id(), news);")
    };
    format!(
        "IF slot OPERATOR(pg_catalog.=) 0 THEN
            {}
        ELSIF slot OPERATOR(pg_catalog.=) 1 THEN
            {}
        ELSIF slot OPERATOR(pg_catalog.=) 2 THEN
            {}
        ELSE
            PERFORM pg_catalog.pg_notify('{}', news);
        END IF;
",
        insert(0),
        insert(1),
        insert(2),
        Means::Outbox.channel()
    )
}

/// Tells each of the texts in `whole`, then those in `keys`.
pub(super) fn tell_all(means: Means) -> String {
    match means {
        Means::Notices => "        FOREACH one IN ARRAY whole OPERATOR(pg_catalog.||) keys LOOP
            PERFORM pg_catalog.pg_notify('hearthside', one);
        END LOOP;
"
        .to_owned(),
        Means::Outbox => format!(
            "        FOREACH news IN ARRAY whole OPERATOR(pg_catalog.||) keys LOOP
        slot := {SLOT};
        {}        END LOOP;
",
            tell_by_slot()
        ),
    }
}

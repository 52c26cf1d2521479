//! The notes of journals: they are made before the first flush, and closed when somebody takes over what was left.
//! Knows no journal file, and no table of the owner's.

use sqlx::PgPool;

use crate::store::StoreError;
use crate::store::flush::{Fence, KEPT_DAYS, Raised};

/// Makes the note of an incarnation and that of one of its strands, and removes what nobody has used for long.
///
/// The strand has the fence of the incarnation, whose row is locked meanwhile: whoever closes the incarnation finds the
/// strand, or has closed it before it was made.
pub(super) async fn enroll(pool: &PgPool, journal: &str, strand: &str) -> Result<(), StoreError> {
    let insert = "INSERT INTO hearthside.journals (journal, applied, fence) VALUES ($1, 0, 0) ON CONFLICT DO NOTHING";
    sqlx::query(insert).bind(journal).execute(pool).await?;
    let insert = "INSERT INTO hearthside.journals (journal, applied, fence) SELECT $2, 0, fence \
        FROM hearthside.journals WHERE journal = $1 FOR SHARE ON CONFLICT DO NOTHING";
    sqlx::query(insert).bind(journal).bind(strand).execute(pool).await?;
    for prune in [
        // An incarnation stays as long as one of its strands.
        "DELETE FROM hearthside.journals AS j WHERE at < now() - $1 * interval '1 day' AND NOT EXISTS (SELECT 1 \
         FROM hearthside.journals AS s WHERE starts_with(s.journal, j.journal || ':') \
         AND s.at >= now() - $1 * interval '1 day')",
        "DELETE FROM hearthside.flushed WHERE at < now() - $1 * interval '1 day'",
    ] {
        // An error of the housekeeping must not delay a flush.
        match sqlx::query(prune).bind(f64::from(KEPT_DAYS)).execute(pool).await.map_err(StoreError::from) {
            Ok(_) => {}
            Err(error @ StoreError::Refused(_)) => {
                let text = "old notes of journals cannot be removed; GRANT DELETE ON hearthside.journals and flushed";
                tracing::warn!(%error, "{text}");
            }
            Err(error) => tracing::debug!(%error, "old notes of journals are removed with the next that are made"),
        }
    }
    Ok(())
}

/// Raises the fence of a strand, or of an incarnation with its strands; the last batches that were applied.
///
/// An incarnation without a note may be one of an older version of the program, which noted each batch in
/// `hearthside.flushed`: noting the taken ones there too tells which had been noted, and stops a statement that is
/// still on its way. The answer is kept in the new note, so that asking again gives the same.
pub(super) async fn fence(pool: &PgPool, fence: Fence<'_>) -> Result<Raised, StoreError> {
    let raise = "WITH taken AS (SELECT unnest($3::int8[]) AS batch), \
        stopped AS (INSERT INTO hearthside.flushed (journal, batch) SELECT $1::text, batch FROM taken \
        WHERE NOT EXISTS (SELECT 1 FROM hearthside.journals WHERE journal = $1) ON CONFLICT DO NOTHING \
        RETURNING batch) INSERT INTO hearthside.journals AS j (journal, applied, fence, successor) \
        SELECT $1::text, coalesce(max(batch), 0), $2::int8, $4::text FROM taken \
        WHERE batch NOT IN (SELECT batch FROM stopped) \
        ON CONFLICT (journal) DO UPDATE SET fence = greatest(j.fence, excluded.fence), at = now(), \
        successor = CASE WHEN j.successor IS NULL OR (j.successor = ANY($5::text[]) AND NOT EXISTS \
        (SELECT 1 FROM hearthside.journals AS h WHERE h.journal = j.successor)) \
        THEN coalesce(excluded.successor, j.successor) ELSE j.successor END \
        RETURNING applied, EXISTS (SELECT 1 FROM hearthside.journals WHERE journal = $1), successor";
    let taken: Vec<i64> = fence.taken.iter().map(|batch| batch.cast_signed()).collect();
    let raised = sqlx::query_as(raise).bind(fence.journal).bind(fence.until.cast_signed()).bind(taken);
    let raised = raised.bind(fence.heir).bind(fence.former);
    let (applied, was_noted, successor): (i64, bool, Option<String>) = raised.fetch_one(pool).await?;
    let mut all = vec![applied];
    if fence.heir.is_some() {
        // With a view of its own: a strand that was made while the note above was waited for is there.
        let close = "UPDATE hearthside.journals SET fence = greatest(fence, $2), at = now() \
            WHERE starts_with(journal, $1 || ':') RETURNING applied";
        let close = sqlx::query_scalar::<_, i64>(close).bind(fence.journal).bind(fence.until.cast_signed());
        all.extend(close.fetch_all(pool).await?);
    }
    Ok(Raised { applied: Raised::batches(all), was_noted, successor })
}

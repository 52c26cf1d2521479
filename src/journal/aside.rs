//! What the store has refused, in the journal's file: entries that are put aside, and wait again or go when an operator
//! says so.

use sqlx::AssertSqlSafe;

use super::file::File;
use super::{Entry, JournalError};
use crate::telemetry::clock::UnixMs;

/// What a row that lies aside counts, as `Entry::weight` says, in SQL.
const WEIGHT: &str = "64 + length(CAST(mapping AS BLOB)) + length(key) + length(field) + coalesce(length(value), 0)";

/// The mark of what is being put aside, which is the number of no batch.
const ASIDE: i64 = -1;

impl File {
    /// Puts entries aside that still wait; the weight of what is freed, and of what lies aside instead.
    pub(super) async fn put_aside(&mut self, entries: &[Entry], reason: &str) -> Result<(u64, u64), JournalError> {
        self.mark(entries, ASIDE).await?;
        sqlx::query(
            "INSERT INTO refused SELECT seq, strftime('%Y-%m-%dT%H:%M:%SZ', ?2, 'unixepoch'), mapping, key, field, \
             value, ?3 FROM waiting WHERE batch = ?1",
        )
        .bind(ASIDE)
        .bind(UnixMs::now().as_ms() / 1000)
        .bind(reason)
        .execute(&mut self.connection)
        .await?;
        let (count, weight) = self.remove_batch(ASIDE).await?;
        Ok((weight, weight + count * reason.len() as u64))
    }

    /// The weight of what lies aside, and its last number.
    pub(super) async fn aside(&mut self) -> Result<(u64, u64), JournalError> {
        let select = format!(
            "SELECT coalesce(sum({WEIGHT} + length(CAST(reason AS BLOB))), 0), coalesce(max(seq), 0) FROM refused"
        );
        let (weight, last): (i64, i64) = sqlx::query_as(AssertSqlSafe(select)).fetch_one(&mut self.connection).await?;
        Ok((weight.unsigned_abs(), last.unsigned_abs()))
    }

    /// Forgets what lies aside, of one key or of all; how many fields. With all, what is missing is forgotten too.
    pub(super) async fn remove(&mut self, key: Option<&[u8]>) -> Result<u64, JournalError> {
        if key.is_none() {
            self.tally.missing = 0;
        }
        self.clear(key).await
    }

    async fn clear(&mut self, key: Option<&[u8]>) -> Result<u64, JournalError> {
        let remove = "DELETE FROM refused WHERE ?1 IS NULL OR key = ?1";
        Ok(sqlx::query(remove).bind(key).execute(&mut self.connection).await?.rows_affected())
    }

    /// Lets the last value of each field wait again that lies aside, of one key or of all, behind everything that
    /// waits. A newer value that waits stays. How many fields were aside.
    pub(super) async fn retry(&mut self, key: Option<&[u8]>) -> Result<u64, JournalError> {
        let retry = format!(
            "INSERT INTO waiting (key, field, seq, mapping, value, weight) SELECT key, field, \
             row_number() OVER (ORDER BY seq) + (SELECT max(coalesce((SELECT max(seq) FROM waiting), 0), \
             coalesce((SELECT max(seq) FROM refused), 0), last) FROM about), mapping, value, {WEIGHT} FROM refused \
             WHERE (?1 IS NULL OR key = ?1) AND seq IN (SELECT max(seq) FROM refused GROUP BY key, field) \
             ON CONFLICT DO NOTHING"
        );
        sqlx::query(AssertSqlSafe(retry)).bind(key).execute(&mut self.connection).await?;
        self.clear(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::Taken;
    use super::{Entry, File};
    use crate::config::JournalSync;
    use crate::journal::Change;

    fn entry(key: usize, seq: u64) -> Entry {
        let change = Change::Field("f".into(), Some("v".into()));
        Entry { seq, mapping: "m".into(), key: format!("k{key}").into(), change }
    }

    #[tokio::test]
    async fn of_a_field_that_has_a_newer_value_nothing_is_taken_or_put_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = File::open(&folder.path().join("journal"), JournalSync::Everysec).await.expect("a journal");
        let (all, newer): (Vec<Entry>, _) = ((0..300).map(|key| entry(key, key as u64)).collect(), entry(7, 1000));
        file.begin().await.expect("a transaction");
        file.append(all.clone()).await.expect("written");
        assert_eq!(file.append(vec![newer.clone()]).await, Ok(newer.weight()));
        let taken = Taken { incarnation: "i".into(), batch: 5, entries: all.clone() };
        file.take(&taken).await.expect("taken");
        file.commit().await.expect("a commit");
        let waiting = file.waiting().await.expect("what waits");
        let of_the_batch = all.iter().filter(|entry| entry.seq != 7).cloned().collect::<Vec<_>>();
        assert_eq!((waiting.entries, waiting.taken), (vec![newer.clone()], vec![(5, of_the_batch)]));
        let one = [all[7].clone(), all[8].clone()];
        let freed = all[8].weight();
        assert_eq!(file.put_aside(&one, "why").await, Ok((freed, freed + 3)));
        let rest: u64 = all.iter().filter(|entry| !matches!(entry.seq, 7 | 8)).map(Entry::weight).sum();
        assert_eq!(file.applied(5).await, Ok(rest));
        let waiting = file.waiting().await.expect("what waits");
        assert_eq!((waiting.entries, waiting.taken.len()), (vec![newer], 0));
    }
}

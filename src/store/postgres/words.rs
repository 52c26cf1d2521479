//! Asks something of all sidecars of the server: by a notice for those that listen, and by a message in the log for
//! those that read that.

use super::Postgres;
use crate::store::StoreError;

/// The channel, and the name in the log, are those that the feeds know.
const SAY: &str =
    "SELECT pg_notify('hearthside_words', $1), pg_logical_emit_message(true, 'hearthside.words', $1)::text";

impl Postgres {
    /// Says a word to all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn say(&self, word: String) -> Result<(), StoreError> {
        let asking = self.questions.turn().await?;
        sqlx::query(SAY).bind(word).execute(asking.pool()).await?;
        Ok(())
    }
}

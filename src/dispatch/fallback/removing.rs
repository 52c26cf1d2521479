//! DEL and UNLINK of keys that may be at either side.

use super::settling::{Settling, Subject};
use crate::cache::Cause;
use crate::config::DeleteMode;
use crate::errors::fallback::partly_removed;
use crate::errors::transaction::both_kinds;
use crate::route::{Route, SplitKey, SplitKeys};
use crate::telemetry::metrics::FellBack;

impl Settling {
    /// Removes keys at the upstream; how many only the upstream had.
    pub(super) async fn remove_all(&self, subjects: &[Subject<'_>]) -> Result<i64, String> {
        let mut removed = 0;
        for (at, subject) in subjects.iter().enumerate() {
            let one = self.remove(*subject).await;
            removed += one.map_err(|why| if at > 0 { partly_removed(&why) } else { why })?;
        }
        Ok(removed)
    }

    /// Removes a key at the upstream; 1 if only the upstream had it.
    async fn remove(&self, subject: Subject<'_>) -> Result<i64, String> {
        let was_there = self.is_in_store(subject).await?;
        let removed = self.take_away(subject).await?;
        self.count(subject, if was_there { FellBack::Store } else { outcome(removed) });
        Ok(if was_there { 0 } else { removed })
    }

    /// Before DEL is queued. A key that only the upstream has would be brought over, and stay where its mapping deletes
    /// no rows; or it cannot be brought over. It is deleted at the upstream, by EXEC. True when the whole command is
    /// the upstream's for that.
    pub(super) async fn before_removal_is_queued(
        &self,
        subjects: &[Subject<'_>],
        route: &Route,
        keys: &SplitKeys,
    ) -> Result<bool, String> {
        let mut theirs = Vec::new();
        for subject in subjects {
            let is_theirs = match subject.config().delete {
                DeleteMode::Row => !self.could_bring(*subject).await?,
                DeleteMode::Invalidate => self.is_theirs(*subject).await?,
            };
            if is_theirs {
                theirs.push(*subject);
            }
        }
        if theirs.is_empty() {
            for subject in subjects {
                self.before_queueing(*subject, route).await?;
            }
            return Ok(false);
        }
        let list = &self.owned.mappings.list;
        let deletes_row = |key: &SplitKey| {
            let mapping = key.holder.mapping().map(|id| &list[id.index()]);
            let is_theirs = theirs.iter().any(|subject| subject.request.arg(key.at) == subject.key);
            !is_theirs && mapping.is_some_and(|mapping| mapping.config.delete == DeleteMode::Row)
        };
        if keys.keys.iter().any(deletes_row) {
            return Err(both_kinds(&keys.spec.name));
        }
        theirs.iter().for_each(|subject| self.count(*subject, FellBack::Upstream));
        subjects.iter().for_each(|subject| _ = self.owned.cache.invalidate(subject.key, Cause::Command("DEL")));
        Ok(true)
    }
}

const fn outcome(removed: i64) -> FellBack {
    if removed > 0 { FellBack::Upstream } else { FellBack::Neither }
}

//! Loads that nobody has asked for: of what was hot before a restart, and of what was read and has changed. What
//! clients ask for goes first.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::Memory;
use super::asking::{Begun, Wish};
use super::waiting::LoadResult;
use crate::cache::entry::Use;
use crate::keys::MappingId;

/// So many keys of a mapping are asked for together, at most: one statement of Postgres.
const MOST: usize = 256;

impl Memory {
    /// How many keys of a mapping are asked for together: not more than its last statement has come to in time.
    pub(crate) fn together(&self, id: MappingId) -> usize {
        let plan = self.source.cached(id).and_then(|cached| cached.current.plan().ok());
        plan.map_or(MOST, |plan| self.source.store.keys_of_a_statement(&plan)).clamp(1, MOST)
    }

    /// Loads keys of a mapping, with the last use of each; what became of each, in their order.
    pub(crate) async fn load_in_background(self: &Arc<Self>, id: MappingId, keys: &[(Bytes, Use)]) -> Vec<LoadResult> {
        let begun = keys.iter().map(|(key, used)| self.begin(id, key, Wish::Background(*used), None));
        let loads = begun.map(|begun| async {
            match begun? {
                Begun::There(entry) => Ok(entry),
                Begun::Joined(flight) => flight.wait().await,
            }
        });
        join_all(loads).await
    }
}

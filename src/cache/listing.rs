//! The keys of a cached mapping, as the store has them.

use bytes::Bytes;

use super::Cache;
use crate::store::StoreError;

/// Where a listing goes on: the key texts of the last row that was seen.
pub type After = Vec<String>;

impl Cache {
    /// The next keys of a mapping, about `limit`, and where to go on; `None` when there are no more.
    ///
    /// # Errors
    /// The store's.
    pub async fn page(
        &self,
        id: usize,
        after: &After,
        limit: usize,
    ) -> Result<(Vec<Bytes>, Option<After>), StoreError> {
        let Some(cached) = self.cached(id) else { return Ok((Vec::new(), None)) };
        let rows = self.store.page(&cached.plan, after, limit).await?;
        let next = (rows.len() >= limit).then(|| rows.last().cloned()).flatten();
        let keys = rows.iter().filter_map(|texts| cached.mapping.pattern.render(texts).map(Bytes::from));
        Ok((keys.collect(), next))
    }
}

//! Owned keys before the store has ever answered: what needs it is answered LOADING, which client libraries know as "try
//! again". Definitions from files are served, and deferred writes whose values can be judged are accepted.

use crate::command::{Request, Spec};
use crate::dispatch::{Owned, Services};
use crate::record::written_shape;
use crate::route::Route;
use crate::store::StoreError;

impl Owned {
    /// True when keys of the mapping cannot be answered before the store is there.
    #[must_use]
    pub fn is_loading(&self, mapping: usize) -> bool {
        self.awaits.is_some() && self.mappings.list[mapping].config.file.is_none()
    }

    /// What a command on such a key is answered with.
    #[must_use]
    pub fn loading_error(&self, mapping: usize) -> String {
        let why = self.awaits.as_ref().map(|away| away.why()).unwrap_or_default();
        let pattern = self.mappings.list[mapping].pattern.text();
        format!("LOADING hearthside: the mapping '{pattern}' waits for its store: {why}")
    }

    /// The error for a store that has not been there yet; `None` for any other.
    pub(crate) fn awaited_error(&self, mapping: usize, error: &StoreError) -> Option<String> {
        matches!(error, StoreError::Loading(_)).then(|| self.loading_error(mapping))
    }

    /// True for a write that may be a deferred one, which the journal takes without the store.
    fn may_wait(&self, mapping: usize, spec: &Spec) -> bool {
        self.cache.takes_deferred(mapping) && written_shape(spec) == Some(self.mappings.list[mapping].config.shape)
    }
}

impl Services {
    /// `route`, unless it leads to a key that cannot be answered yet.
    pub(crate) fn unless_loading(&self, request: &Request<'_>, route: Route) -> Route {
        let waits = match &route {
            Route::Owned(mapping, _, spec) if self.owned.may_wait(*mapping, spec) => None,
            Route::Owned(mapping, ..) => Some(*mapping),
            Route::Split(keys, _) => keys
                .iter()
                .filter_map(|at| self.router.owner(request.arg(*at)))
                .find(|mapping| self.owned.is_loading(*mapping)),
            _ => None,
        };
        match waits.filter(|mapping| self.owned.is_loading(*mapping)) {
            Some(mapping) => Route::Refused(self.owned.loading_error(mapping).into()),
            None => route,
        }
    }
}

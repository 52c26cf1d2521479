//! Owned keys before the store has answered for the first time: commands that need the store are answered LOADING,
//! which client libraries know as "try again". Definitions from files are served, and deferred writes whose values can
//! be checked are accepted. Definitions that were never loaded for another reason are answered with that one.

use crate::dispatch::Owned;
use crate::errors;
use crate::keys::MappingId;
use crate::record::{Verb, WriteVerb};
use crate::route::Route;
use crate::store::StoreError;

impl Owned {
    /// True when keys of the mapping cannot be answered before the store is there.
    #[must_use]
    pub fn is_loading(&self, mapping: MappingId) -> bool {
        self.awaits.is_some() && self.mappings.list[mapping.index()].config.file.is_none()
            || self.definitions.unloaded(mapping).is_some()
    }

    /// True while there are such mappings.
    #[inline]
    pub(crate) fn is_incomplete(&self) -> bool {
        self.awaits.is_some() || self.definitions.lacks_some()
    }

    /// The answer to a command on such a key.
    #[must_use]
    pub fn loading_error(&self, mapping: MappingId) -> String {
        let pattern = self.mappings.list[mapping.index()].pattern.text();
        if let Some(why) = self.definitions.unloaded(mapping) {
            return errors::owned::never_loaded(pattern, &why);
        }
        let why = self.awaits.as_ref().map(|away| away.why()).unwrap_or_default();
        errors::owned::waits_for_store(pattern, &why)
    }

    /// The error of a store that has not answered yet; `None` for any other error.
    pub(super) fn awaited_error(&self, mapping: MappingId, error: &StoreError) -> Option<String> {
        matches!(error, StoreError::Loading(_)).then(|| self.loading_error(mapping))
    }

    /// True for a write that may be a deferred one, which the journal takes without the store.
    fn may_wait(&self, mapping: MappingId, verb: WriteVerb) -> bool {
        self.cache.takes_deferred(mapping) && verb.shape == self.mappings.list[mapping.index()].config.shape
    }

    /// The mapping of a key that `route` needs, if it may have to wait for the store.
    fn awaited(&self, route: &Route) -> Option<MappingId> {
        match route {
            Route::Cached(..) if self.awaits.is_none() => None,
            Route::Cached(key, Verb::Write(verb)) if self.may_wait(key.mapping, *verb) => None,
            Route::Split(split) => {
                split.keys.iter().filter_map(|key| key.holder.mapping()).find(|mapping| self.is_loading(*mapping))
            }
            other => other.owned_key().map(|key| key.mapping).filter(|mapping| self.is_loading(*mapping)),
        }
    }

    /// `route`, unless it leads to a key that cannot be answered yet.
    pub(crate) fn unless_loading(&self, route: Route) -> Route {
        match self.awaited(&route) {
            Some(mapping) => Route::Refused(self.loading_error(mapping).into()),
            None => route,
        }
    }
}

//! What is counted of the limits of users and mappings.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::register::Register;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UserLimit {
    user: String,
    /// A key of the `[[users]]` block.
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MappingLimit {
    mapping: String,
    /// A key of the `[[caches]]` block.
    limit: &'static str,
}

/// The counters of one kind of limit.
#[derive(Debug)]
struct Limited<L> {
    counters: Family<L, Counter>,
    /// Those that are shown.
    shown: Mutex<HashSet<L>>,
}

impl<L: Clone + Eq + Hash> Limited<L> {
    fn new(counters: Family<L, Counter>) -> Self {
        Self { counters, shown: Mutex::default() }
    }

    fn shown(&self) -> MutexGuard<'_, HashSet<L>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, limit: L) -> Counter {
        let counter = self.counters.get_or_create_owned(&limit);
        self.shown().insert(limit);
        counter
    }

    /// Shows these, and no others.
    fn keep(&self, limits: HashSet<L>) {
        self.shown().extract_if(|limit| !limits.contains(limit)).for_each(|gone| _ = self.counters.remove(&gone));
        limits.into_iter().for_each(|limit| _ = self.of(limit));
    }
}

/// Of the limits that are configured.
#[derive(Debug)]
pub struct LimitMetrics {
    users: Limited<UserLimit>,
    mappings: Limited<MappingLimit>,
}

impl LimitMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            users: Limited::new(r.family(
                "user_limited",
                "Commands that were refused because a limit of their [[users]] block was reached, by user and limit",
            )),
            mappings: Limited::new(r.family(
                "mapping_limited",
                "Commands whose loads were refused because a limit of the mapping's block was reached, by mapping and \
                 limit",
            )),
        }
    }

    /// Shows these limits of users and mappings, each by name and setting, from zero on, and no others.
    pub fn show<'n>(
        &self,
        users: impl Iterator<Item = (&'n str, &'static str)>,
        mappings: impl Iterator<Item = (&'n str, &'static str)>,
    ) {
        self.users.keep(users.map(|(user, limit)| UserLimit { user: user.to_owned(), limit }).collect());
        let labels = mappings.map(|(mapping, limit)| MappingLimit { mapping: mapping.to_owned(), limit });
        self.mappings.keep(labels.collect());
    }

    /// The counter of a user's limit.
    pub fn of_user(&self, user: &str, limit: &'static str) -> Counter {
        self.users.of(UserLimit { user: user.to_owned(), limit })
    }

    /// The counter of a mapping's limit.
    pub fn of_mapping(&self, mapping: &str, limit: &'static str) -> Counter {
        self.mappings.of(MappingLimit { mapping: mapping.to_owned(), limit })
    }
}

//! So many at the same time: places that are taken without waiting, and come back by Drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Quota;

/// How many are inside, and how many may be.
#[derive(Debug)]
pub(super) struct Gate {
    most: AtomicUsize,
    inside: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self { most: AtomicUsize::new(usize::MAX), inside: AtomicUsize::new(0) }
    }
}

impl Gate {
    /// Lets so many in from now on; those who are inside stay.
    pub(super) fn widen(&self, most: Option<u32>) {
        self.most.store(most.map_or(usize::MAX, |most| most as usize), Relaxed);
    }

    fn enter(&self) -> bool {
        let most = self.most.load(Relaxed);
        self.inside.fetch_update(Relaxed, Relaxed, |inside| (inside < most).then_some(inside + 1)).is_ok()
    }
}

/// One of a quota's places for loads. Dropped, it is free again.
#[derive(Debug)]
pub struct Place(Arc<Quota>);

impl Place {
    /// One of `quota`, if one is free.
    pub(super) fn of(quota: &Arc<Quota>) -> Option<Self> {
        quota.loads.enter().then(|| Self(quota.clone()))
    }

    pub(super) fn is_of(&self, quota: &Arc<Quota>) -> bool {
        Arc::ptr_eq(&self.0, quota)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.loads.inside.fetch_sub(1, Relaxed);
    }
}

//! Which servers may answer reads, as all threads see it: a value that is replaced as a whole. Whether a replica is up
//! to date is known for a short time only, and ends by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::config::ReadFrom;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::ServerMetric;
use crate::upstream::endpoint::Endpoint;

/// Servers that answer so much later than the fastest are as near as that.
const AS_NEAR: Duration = Duration::from_micros(200);

/// A replica that reads may go to.
#[derive(Debug)]
pub(crate) struct Reader {
    /// It has connections of its own for reads.
    pub(crate) endpoint: Arc<Endpoint>,
    /// Until when it is known to be behind by no more than `upstream.read_lag`.
    fresh_until: AtomicU64,
    /// What it has for that, in bytes of what its primary writes: one that is started again begins with less.
    floor: Arc<AtomicU64>,
    /// It knows nothing of keys that are on their way to another node: what it does not find may be there.
    pub(crate) is_of_cluster: bool,
    /// What is shown of it.
    pub(crate) server: ServerMetric,
}

impl Reader {
    pub(super) fn new(endpoint: Endpoint, floor: Arc<AtomicU64>, server: ServerMetric, is_of_cluster: bool) -> Self {
        Self { endpoint: Arc::new(endpoint), fresh_until: AtomicU64::new(0), floor, is_of_cluster, server }
    }

    /// It is up to date enough.
    pub(crate) fn is_fresh(&self, now: Tick) -> bool {
        now.as_ms() < self.fresh_until.load(Ordering::Acquire)
    }

    /// With so many bytes it will be up to date enough until this moment.
    pub(super) fn is_fresh_until(&self, end: Tick, floor: u64) {
        self.floor.store(floor, Ordering::Release);
        self.fresh_until.fetch_max(end.as_ms(), Ordering::AcqRel);
    }

    /// It is read no more, until it is known again that it is up to date.
    pub(crate) fn leave(&self) {
        self.fresh_until.store(0, Ordering::Release);
    }
}

/// A server that may be read, as the choice among several sees it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// None: the primary.
    pub(super) reader: Option<Arc<Reader>>,
    pub(super) latency: Duration,
    /// It is in the zone that the sidecar is in.
    pub(super) is_in_zone: bool,
}

/// Those that reads go to, of a primary and its replicas; none stands for the primary.
pub(super) type Near = Vec<Option<Arc<Reader>>>;

/// Chooses them.
pub(super) fn near(from: ReadFrom, mut candidates: Vec<Candidate>) -> Near {
    if from == ReadFrom::Replica {
        candidates.retain(|candidate| candidate.reader.is_some());
    }
    if candidates.iter().any(|candidate| candidate.is_in_zone) {
        candidates.retain(|candidate| candidate.is_in_zone);
    } else if from == ReadFrom::Nearest {
        let fastest = candidates.iter().map(|candidate| candidate.latency).min().unwrap_or_default();
        candidates.retain(|candidate| candidate.latency <= fastest + fastest / 2 + AS_NEAR);
    }
    candidates.into_iter().map(|candidate| candidate.reader).collect()
}

/// The servers that reads go to, by the primary.
#[derive(Debug, Default)]
pub(crate) struct Readers(pub(super) Vec<(Weak<Endpoint>, Near)>);

impl Readers {
    /// The replica that a client reads from instead of this primary: the same one for as long as it is up to date.
    /// None: the primary itself.
    pub(crate) fn instead_of(&self, primary: &Arc<Endpoint>, client: u64, now: Tick) -> Option<&Arc<Reader>> {
        let (_, near) = self.0.iter().find(|(known, _)| known.as_ptr() == Arc::as_ptr(primary))?;
        let first = client as usize % near.len().max(1);
        let mut from_there_on = near[first..].iter().chain(&near[..first]);
        from_there_on.find(|one| one.as_ref().is_none_or(|reader| reader.is_fresh(now)))?.as_ref()
    }

    /// Each replica.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.0.iter().flat_map(|(_, near)| near).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Candidate, near};
    use crate::config::ReadFrom;

    fn kept(from: ReadFrom, candidates: &[(u64, bool)]) -> usize {
        let candidate = |&(ms, is_in_zone)| Candidate { reader: None, latency: Duration::from_millis(ms), is_in_zone };
        near(from, candidates.iter().map(candidate).collect()).len()
    }

    #[test]
    fn the_nearest_are_those_in_the_zone_or_the_fastest() {
        for (candidates, expected) in [
            (&[(1, false), (9, true), (2, true)][..], 2),
            (&[(1, false), (9, false)], 1),
            (&[(1, false), (1, false), (9, false)], 2),
            (&[], 0),
        ] {
            assert_eq!(kept(ReadFrom::Nearest, candidates), expected, "{candidates:?}");
        }
        assert_eq!(kept(ReadFrom::Replica, &[(1, true)]), 0, "the primary is none");
    }
}

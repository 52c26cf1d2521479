//! What one upstream connection is subscribed to, read off the confirmations that pass.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;

use crate::resp::pubsub::Kind;

/// Who is told of each confirmation, before the client is.
pub trait Follower: fmt::Debug {
    /// The upstream has confirmed that the client is subscribed to this, or is not any more.
    fn confirmed(&self, kind: Kind, name: &[u8], on: bool);
}

/// Everything one connection is subscribed to.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    channels: HashSet<Bytes>,
    patterns: HashSet<Bytes>,
    shards: HashSet<Bytes>,
    /// What their names cost, in bytes.
    cost: usize,
}

/// What a name costs beside its bytes.
const NAME: usize = 64;

impl Subscriptions {
    /// Takes a confirmation into account.
    pub(crate) fn confirm(&mut self, kind: Kind, name: Option<&[u8]>, on: bool) {
        let Some(name) = name else { return };
        let set = self.of_mut(kind);
        if on && set.insert(Bytes::copy_from_slice(name)) {
            self.cost += name.len() + NAME;
        } else if !on && set.remove(name) {
            self.cost -= name.len() + NAME;
        }
    }

    /// Bytes of memory that the names take.
    pub(crate) const fn cost(&self) -> usize {
        self.cost
    }

    /// The number of one kind.
    #[must_use]
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.len(),
            Kind::Pattern => self.patterns.len(),
            Kind::Shard => self.shards.len(),
        }
    }

    /// Everything of one kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<Bytes> {
        let set = match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shards,
        };
        set.iter().cloned().collect()
    }

    /// True when nothing is subscribed.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.shards.is_empty()
    }

    /// Channels, patterns and shard channels, as CLIENT LIST counts them.
    #[must_use]
    pub(crate) fn counts(&self) -> [usize; 3] {
        [self.channels.len(), self.patterns.len(), self.shards.len()]
    }

    fn of_mut(&mut self, kind: Kind) -> &mut HashSet<Bytes> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Subscriptions;
    use crate::resp::pubsub::Kind;

    #[test]
    fn what_is_subscribed_is_known() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.confirm(Kind::Channel, Some(b"a"), true);
        subscriptions.confirm(Kind::Channel, Some(b"a"), true);
        subscriptions.confirm(Kind::Pattern, Some(b"a"), true);
        assert_eq!((subscriptions.counts(), subscriptions.cost()), ([1, 1, 0], 130));
        subscriptions.confirm(Kind::Channel, Some(b"a"), false);
        subscriptions.confirm(Kind::Pattern, Some(b"a"), false);
        subscriptions.confirm(Kind::Shard, None, false);
        assert!(subscriptions.is_empty() && subscriptions.cost() == 0);
    }
}

//! SUBSCRIBE and related commands inside MULTI. Redis answers one with as many confirmations as it names channels,
//! which breaks the count of EXEC's array; queued as one command for each channel, every element can be told apart.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use crate::command::Request;
use crate::keys::glob_match;
use crate::resp::encode;
use crate::resp::pubsub::Kind;
use crate::upstream::Pinned;

/// What will be subscribed when everything queued has run.
#[derive(Debug, Default)]
pub(super) struct Topics {
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    shards: BTreeSet<Bytes>,
}

impl Topics {
    /// What is subscribed now.
    pub(super) fn of(own: Option<&Pinned>) -> Self {
        let names = |kind| own.map(|pinned| pinned.names(kind)).unwrap_or_default().into_iter().collect();
        Self { channels: names(Kind::Channel), patterns: names(Kind::Pattern), shards: names(Kind::Shard) }
    }

    /// True when something will be subscribed.
    pub(super) fn is_any(&self) -> bool {
        !self.channels.is_empty() || !self.patterns.is_empty() || !self.shards.is_empty()
    }

    /// True when the client would receive its own message: a Redis before 7.2 puts it between the elements of EXEC's
    /// reply, where no client could distinguish it from them.
    pub(super) fn hear(&self, request: &Request<'_>) -> bool {
        let channel = request.arg(1);
        let publishes = request.is(0, "PUBLISH") && (self.channels.contains(channel) || self.matches(channel));
        publishes || request.is(0, "SPUBLISH") && self.shards.contains(channel)
    }

    fn matches(&self, channel: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| glob_match(pattern, channel))
    }

    /// The commands that `request` stands for.
    pub(super) fn split(&mut self, request: &Request<'_>, kind: Kind, on: bool) -> Vec<BytesMut> {
        let set = match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shards,
        };
        let named: Vec<Bytes> = request.args_from(1).map(Bytes::copy_from_slice).collect();
        let names = if named.is_empty() { set.iter().cloned().collect() } else { named };
        if names.is_empty() {
            return vec![BytesMut::from(request.raw())];
        }
        let one = |name: &Bytes| {
            if on {
                set.insert(name.clone());
            } else {
                set.remove(name);
            }
            let mut bytes = BytesMut::new();
            encode::request(&mut bytes, &[request.arg(0), name]);
            bytes
        };
        names.iter().map(one).collect()
    }
}

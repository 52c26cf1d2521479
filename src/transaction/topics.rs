//! SUBSCRIBE and its kin inside MULTI. Redis answers one with as many confirmations as it names channels, which breaks
//! the count of EXEC's array; queued as one command for each channel, every element can be told apart.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use crate::command::Request;
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

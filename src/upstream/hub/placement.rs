//! Where a subscription is made, where the upstream is a cluster. Pure.
//!
//! A message that is published at one node reaches the subscribers of all, so one node does for channels and patterns.
//! What a node tells of its own keys (keyspace notifications) it tells its own subscribers alone, and a sharded message
//! stays with the node that owns the channel's slot.
//!
//! Sources: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#publishsubscribe>,
//! <https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/>

use super::table::Topic;
use crate::command::slot_of;
use crate::resp::key_channels::{may_notify, notifies};
use crate::resp::pubsub::{self, Kind};

/// Which nodes have what is published there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any of them.
    Any,
    /// Each master has some of it.
    Each,
    /// The owner of this slot.
    Owner(u16),
}

/// Where what is published to a topic can be heard.
pub(super) fn reach((kind, name): &Topic) -> Reach {
    match kind {
        Kind::Shard => Reach::Owner(slot_of(name)),
        Kind::Channel | Kind::Pattern if may_notify(*kind, name) => Reach::Each,
        Kind::Channel | Kind::Pattern => Reach::Any,
    }
}

/// True when a message that came from one of several nodes is told by that node alone: the others do not bring it, too.
pub(super) fn is_told_by_one(kind: Kind, frame: &[u8]) -> bool {
    kind != Kind::Pattern || pubsub::channel_of_pattern(frame).is_some_and(notifies)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Reach, is_told_by_one, reach};
    use crate::resp::pubsub::Kind;

    #[test]
    fn notifications_are_heard_at_each_node_and_sharded_messages_at_the_owner() {
        for (kind, name, expected) in [
            (Kind::Channel, "news", Reach::Any),
            (Kind::Channel, "__keyevent@0__:expired", Reach::Each),
            (Kind::Channel, "__key*", Reach::Any),
            (Kind::Pattern, "*", Reach::Each),
            (Kind::Pattern, "__key*__:*", Reach::Each),
            (Kind::Pattern, "__keyspace@0__:foo", Reach::Each),
            (Kind::Pattern, "__keyspace", Reach::Any),
            (Kind::Pattern, "_\\_keyspace*", Reach::Each),
            (Kind::Pattern, "news.*", Reach::Any),
            (Kind::Shard, "foo", Reach::Owner(12_182)),
            (Kind::Shard, "{foo}bar", Reach::Owner(12_182)),
        ] {
            assert_eq!(reach(&(kind, Bytes::from_static(name.as_bytes()))), expected, "{name}");
        }
    }

    #[test]
    fn what_every_node_brings_is_taken_from_one() {
        let message = |channel: &str| {
            format!("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n${}\r\n{channel}\r\n$1\r\nx\r\n", channel.len()).into_bytes()
        };
        assert!(is_told_by_one(Kind::Pattern, &message("__keyevent@0__:del")));
        assert!(!is_told_by_one(Kind::Pattern, &message("news")));
        assert!(is_told_by_one(Kind::Shard, b""));
    }
}

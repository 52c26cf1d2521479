//! The channels of keyspace notifications: `__keyspace@N__:key` and `__keyevent@N__:event`, and those that Redis 8.8
//! has for the fields of hashes.
//!
//! Sources: <https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/>,
//! <https://redis.io/docs/latest/develop/pubsub/subkeyspace-notifications/>

use super::pubsub::Kind;

/// With one of these begins the channel of a notification.
const BEGINNINGS: [&[u8]; 4] = [b"__keyspace@", b"__keyevent@", b"__subkeyspace", b"__subkeyevent@"];

/// True for the channel of a notification.
#[must_use]
pub fn notifies(channel: &[u8]) -> bool {
    BEGINNINGS.iter().any(|first| channel.starts_with(first))
}

/// True for what may be told of notifications by somebody's subscription to it. Of a pattern what stands before its
/// first wildcard is looked at.
#[must_use]
pub fn may_notify(kind: Kind, name: &[u8]) -> bool {
    match kind {
        Kind::Channel => notifies(name),
        Kind::Pattern => {
            let plain = name.iter().position(|byte| b"*?[\\".contains(byte)).map_or(name, |end| &name[..end]);
            notifies(plain) || plain.len() < name.len() && BEGINNINGS.iter().any(|first| first.starts_with(plain))
        }
        Kind::Shard => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, may_notify};

    #[test]
    fn what_may_be_a_notification_is_known_by_its_beginning() {
        for (kind, name, expected) in [
            (Kind::Channel, "news", false),
            (Kind::Channel, "__keyevent@0__:expired", true),
            (Kind::Channel, "__subkeyspaceitem@0__:key\nfield", true),
            (Kind::Channel, "__subkeyevent@0__:hset", true),
            (Kind::Channel, "__key*", false),
            (Kind::Pattern, "*", true),
            (Kind::Pattern, "__*", true),
            (Kind::Pattern, "__key*__:*", true),
            (Kind::Pattern, "__sub*", true),
            (Kind::Pattern, "__keyspace@0__:foo", true),
            (Kind::Pattern, "__keyspace", false),
            (Kind::Pattern, "_\\_keyspace*", true),
            (Kind::Pattern, "news.*", false),
            (Kind::Shard, "__keyevent@0__:expired", false),
        ] {
            assert_eq!(may_notify(kind, name.as_bytes()), expected, "{name}");
        }
    }
}

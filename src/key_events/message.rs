//! An event as it is told: on the channels of Redis's keyspace notifications, and on those that Redis 8.8 has for the
//! fields of hashes.
//!
//! ```text
//! __keyspace@N__:key            event
//! __keyevent@N__:event          key
//! __subkeyspace@N__:key         event|length:field[,length:field ...]
//! __subkeyevent@N__:event       length:key|length:field[,length:field ...]
//! __subkeyspaceitem@N__:key\nfield   event
//! __subkeyspaceevent@N__:event|key   length:field[,length:field ...]
//! ```
//!
//! Sources: <https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/>,
//! <https://redis.io/docs/latest/develop/pubsub/subkeyspace-notifications/>

use bytes::{BufMut, Bytes, BytesMut};

use crate::resp::encode;

/// What has happened to a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'e> {
    pub(super) database: i64,
    pub(super) key: &'e [u8],
    pub(super) name: &'e str,
    /// Of a hash, those that it is about.
    pub(super) fields: &'e [Bytes],
}

/// Gives `tell` each channel on which an event is told and what is published there, in Redis's order: one after the
/// other, because all of those for the fields of a long key may be much more than the write was.
pub(super) fn each(event: &Event<'_>, tells_fields: bool, mut tell: impl FnMut(&[u8], &[u8])) {
    let Event { database, key, name, fields } = *event;
    tell(&channel("keyspace", database, key), name.as_bytes());
    tell(&channel("keyevent", database, name.as_bytes()), key);
    if tells_fields && !fields.is_empty() {
        each_of_fields(event, tell);
    }
}

fn each_of_fields(event: &Event<'_>, mut tell: impl FnMut(&[u8], &[u8])) {
    let Event { database, key, name, fields } = *event;
    let name = name.as_bytes();
    let counted = |text: &[u8]| [text.len().to_string().as_bytes(), b":", text].concat();
    let list = fields.iter().map(|field| counted(field)).collect::<Vec<_>>().join(&b","[..]);
    tell(&channel("subkeyspace", database, key), &[name, b"|", &list[..]].concat());
    tell(&channel("subkeyevent", database, name), &[&counted(key)[..], b"|", &list[..]].concat());
    // Where the two stand is told by the line's end.
    if !key.contains(&b'\n') {
        for field in fields {
            tell(&channel("subkeyspaceitem", database, &[key, b"\n", &field[..]].concat()), name);
        }
    }
    tell(&channel("subkeyspaceevent", database, &[name, b"|", key].concat()), &list);
}

fn channel(kind: &str, database: i64, of: &[u8]) -> Vec<u8> {
    [format!("__{kind}@{database}__:").as_bytes(), of].concat()
}

/// A message for those of its channel, without its first byte.
pub(super) fn of_channel(channel: &[u8], payload: &[u8]) -> Bytes {
    of(&[b"message", channel, payload])
}

/// A message for those of a pattern, without its first byte.
pub(super) fn of_pattern(pattern: &[u8], channel: &[u8], payload: &[u8]) -> Bytes {
    of(&[b"pmessage", pattern, channel, payload])
}

fn of(parts: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(format!("{}\r\n", parts.len()).as_bytes());
    parts.iter().for_each(|part| encode::bulk(&mut out, part));
    out.freeze()
}

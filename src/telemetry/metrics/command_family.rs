//! What kind of command one is: a small set that stays the same whatever commands a server has.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// By Redis's ACL categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the labels")]
pub enum CommandFamily {
    Blocking,
    Transaction,
    Scripting,
    Pubsub,
    Connection,
    Stream,
    Sortedset,
    Geo,
    Hyperloglog,
    Bitmap,
    Hash,
    List,
    Set,
    String,
    Keyspace,
    Admin,
    Other,
}

/// Each with its category. One that is of several is of the first.
pub(super) const FAMILIES: [(CommandFamily, &str); 17] = [
    (CommandFamily::Blocking, "blocking"),
    (CommandFamily::Transaction, "transaction"),
    (CommandFamily::Scripting, "scripting"),
    (CommandFamily::Pubsub, "pubsub"),
    (CommandFamily::Connection, "connection"),
    (CommandFamily::Stream, "stream"),
    (CommandFamily::Sortedset, "sortedset"),
    (CommandFamily::Geo, "geo"),
    (CommandFamily::Hyperloglog, "hyperloglog"),
    (CommandFamily::Bitmap, "bitmap"),
    (CommandFamily::Hash, "hash"),
    (CommandFamily::List, "list"),
    (CommandFamily::Set, "set"),
    (CommandFamily::String, "string"),
    (CommandFamily::Keyspace, "keyspace"),
    (CommandFamily::Admin, "admin"),
    (CommandFamily::Other, "other"),
];

impl CommandFamily {
    /// That of a command of these ACL categories.
    #[must_use]
    pub fn of(categories: &[&str]) -> Self {
        let found = FAMILIES.iter().find(|(_, category)| categories.contains(category));
        found.map_or(Self::Other, |(family, _)| *family)
    }
}

impl EncodeLabelValue for CommandFamily {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(FAMILIES[*self as usize].1)
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandFamily, FAMILIES};

    #[test]
    fn each_family_stands_at_its_place_and_the_first_category_counts() {
        for (at, (family, _)) in FAMILIES.iter().enumerate() {
            assert_eq!(*family as usize, at);
        }
        assert_eq!(CommandFamily::of(&["blocking", "list", "slow", "write"]), CommandFamily::Blocking);
        assert_eq!(CommandFamily::of(&["fast", "hash", "read"]), CommandFamily::Hash);
        assert_eq!(CommandFamily::of(&["slow"]), CommandFamily::Other);
    }
}

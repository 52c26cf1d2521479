//! Whether clients are told of events of owned keys (keyspace notifications).

use serde::{Deserialize, Serialize};

/// `[notify]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notify {
    /// Those who are subscribed to `__keyspace@N__:key` or `__keyevent@N__:event` are told of owned keys, too.
    pub keyspace: bool,
    /// And those who are subscribed to `__subkeyspace@N__:key` and related channels, which fields of a hash were
    /// written.
    pub fields: bool,
}

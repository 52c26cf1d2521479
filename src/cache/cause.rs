//! Why something is not in memory any more.

use std::sync::Arc;

use crate::telemetry::traces::CommandTrace;

/// Who wrote a key, and by which command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The client's id (CLIENT ID).
    pub client: u64,
    /// Its name (CLIENT SETNAME), perhaps empty.
    pub name: String,
    /// The command, EXEC for those of a transaction.
    pub command: String,
}

/// Who writes, and what of that is traced.
#[derive(Clone, Debug)]
pub struct By {
    /// Who writes.
    pub author: Arc<Author>,
    /// The command's trace.
    pub trace: Option<Arc<CommandTrace>>,
}

impl Author {
    fn words(&self) -> String {
        let name = if self.name.is_empty() { String::new() } else { format!(" \"{}\"", self.name) };
        format!("client {}{name} ({})", self.client, self.command.to_uppercase())
    }
}

/// What made memory forget a key, or put something else in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "see the words of each")]
pub enum Cause {
    /// The table, where the notice says it.
    Change(Option<Arc<str>>),
    /// Whose, where that is known.
    Write(Option<Arc<Author>>),
    /// Which.
    Command(&'static str),
    /// Which, by this client.
    Asked(&'static str, u64),
    Ttl,
    Evicted,
    Start,
    Gap,
    StoreChanged,
    TriggerFailed,
    Schema,
    Reload,
    Mode,
    Stale,
    WriteRefused,
}

impl Cause {
    /// The client that has done it, where that is known.
    pub(super) fn client(&self) -> Option<u64> {
        match self {
            Self::Write(Some(author)) => Some(author.client),
            Self::Asked(_, client) => Some(*client),
            _ => None,
        }
    }

    /// True when somebody has changed the key, it is not known how: whoever listens is told that alone.
    pub(super) fn is_news(&self) -> bool {
        match self {
            Self::Change(_) | Self::Stale => true,
            // A DEL tells of itself.
            Self::Command(name) => *name != "DEL",
            _ => false,
        }
    }

    /// One word, for scripts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Change(_) => "change",
            Self::Write(_) => "write",
            Self::Command(_) | Self::Asked(..) => "command",
            Self::Ttl => "ttl",
            Self::Evicted => "eviction",
            Self::Start => "start",
            Self::Gap => "gap",
            Self::StoreChanged => "store_changed",
            Self::TriggerFailed => "trigger_failed",
            Self::Schema => "schema",
            Self::Reload => "reload",
            Self::Mode => "mode",
            Self::Stale => "stale",
            Self::WriteRefused => "write_refused",
        }
    }

    /// The same for people.
    #[must_use]
    pub fn words(&self) -> String {
        let words = match self {
            Self::Change(Some(table)) => return format!("the change feed told a change of its rows in table {table}"),
            Self::Command(name) | Self::Asked(name, _) => return format!("{} asked for it", name.to_uppercase()),
            Self::Change(None) => "the change feed told a change of its rows",
            Self::Write(Some(author)) => return format!("it was written through this sidecar, by {}", author.words()),
            Self::Write(None) => "it was written through this sidecar",
            Self::Ttl => "its TTL was over",
            Self::Evicted => "memory was full (cache.max_bytes, or cache.negative_entries of absent keys)",
            Self::Start => "the change feed began: what was loaded before may have missed a change",
            Self::Gap => "changes may have been missed while the change feed was away",
            Self::StoreChanged => "something in the store has changed, and what is not known",
            Self::TriggerFailed => "a change trigger could not tell which keys had changed",
            Self::Schema => "the schema of its tables has changed",
            Self::Reload => "the configuration was reloaded, or the tables were to be read again",
            Self::Mode => "its mapping has another mode",
            Self::Stale => "the verifier found that the store holds something else",
            Self::WriteRefused => "the store refuses a deferred write of it",
        };
        words.to_owned()
    }
}

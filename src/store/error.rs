//! What can go wrong with the store, whose fault it is, and whether another attempt helps.

use crate::errors::store_words::{NOT_NOW, OVERLOADED, REFUSED, for_anybody, for_who_asked};

/// A failure of the store. Its text is for logs and events, and does not quote values; the client who asked is told
/// `in_full`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or not in time. Trying again later is safe.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It is there, and did not come to this in time: nothing has changed. Trying again later is safe.
    #[error("{OVERLOADED}{}", for_anybody(.0))]
    Overloaded(String),
    /// It answered, over a connection that goes on, that it could not do this now: a trigger's words, or those of a
    /// server behind a foreign table. Nothing has changed; trying again later is safe.
    #[error("{NOT_NOW}{}", for_anybody(.0))]
    Transient(String),
    /// It takes reads only, in its own words: nothing has changed. Trying again helps when that has ended.
    #[error(
        "the store takes reads only, because it is a hot standby or default_transaction_read_only is on ({}); promote \
         it, switch the setting off, or let store.url lead to the primary",
        for_anybody(.0)
    )]
    ReadOnly(String),
    /// It failed so often that nothing is sent for a moment.
    #[error("the store does not answer; the circuit breaker is open and tries again soon")]
    Open,
    /// It has not been there since the sidecar began. Trying again later is safe.
    #[error("{0}")]
    Loading(String),
    /// It was not asked: a limit of the user or the mapping is reached, and this is the answer.
    #[error("{0}")]
    Limited(String),
    /// It answered that the statement is wrong. Trying again does not help.
    #[error("{REFUSED}{}", for_anybody(.0))]
    Refused(String),
    /// The statement does not fit the schema any more: nothing has changed, and a statement for the schema of now may
    /// go.
    #[error("{REFUSED}{}", for_anybody(.0))]
    Schema(String),
    /// The mapping does not fit the schema: the keys of its block, and what is wrong. It is tried again every few
    /// seconds.
    #[error("{0}")]
    Faulty(String),
    /// A file that stands for a table cannot be read, or holds something else: file, line and what is wrong.
    #[error("{0}")]
    File(String),
    /// It answered that it does not take these values; nothing has changed. Other values may go.
    #[error("{REFUSED}{}", for_anybody(.0))]
    Data(String),
    /// The journal of deferred writes does not take this; nothing has changed.
    #[error("{0}")]
    Journal(String),
    /// A field cannot be written; nothing has changed.
    #[error("{} cannot be written: {reason}", named(.field))]
    Field {
        /// The field; empty for a value that has no name.
        field: String,
        /// Why, without its value.
        reason: String,
    },
    /// What Redis would say of the value that is there; nothing has changed.
    #[error("{0}")]
    Value(&'static str),
    /// It may have been written, or not: the answer did not come.
    #[error("the store's answer did not come, the write may have been applied: {0}")]
    Ambiguous(String),
    /// One of its parts has been written, and not the rest: what each is, and why.
    #[error("it was written in part: {0}")]
    Partly(String),
    /// Another transaction was in the way; nothing has changed.
    #[error("another transaction changed the same rows")]
    Conflict,
    /// What a transaction reads and writes is more than its client may hold; nothing has changed.
    #[error("what it reads and writes would be more than all clients may hold (limits.buffers)")]
    TooMuch,
    /// The mapping does not fit the store: `key of the block`, what is wrong.
    #[error("{}", .0.iter().map(|(key, fault)| format!("{key}: {fault}")).collect::<Vec<_>>().join("; "))]
    Faults(Vec<(&'static str, String)>),
}

/// What a write says that the table kept from happening.
const SUPPRESSED: &str = "a trigger of the table, or a policy for rows, kept the row as it was; nothing was written";

/// What is said of a text that cannot be stored, or read.
pub(super) const UNTRANSLATABLE: &str = "the encoding of the database does not have one of the characters, or UTF-8 \
    does not";

/// A field in the words of an error.
fn named(field: &str) -> String {
    if field.is_empty() { "the value".to_owned() } else { format!("the field '{field}'") }
}

impl StoreError {
    /// One word, which holds nothing of a key or a value.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Overloaded(_) => "overloaded",
            Self::Transient(_) => "transient",
            Self::ReadOnly(_) => "read_only",
            Self::Open => "breaker_open",
            Self::Loading(_) => "loading",
            Self::Limited(_) => "limited",
            Self::Refused(_) => "refused",
            Self::Schema(_) => "schema",
            Self::Faulty(_) | Self::Faults(_) => "mapping_faulty",
            Self::File(_) => "file",
            Self::Data(_) => "data",
            Self::Journal(_) => "journal",
            Self::Field { .. } => "field",
            Self::Value(_) => "value",
            Self::Ambiguous(_) => "ambiguous",
            Self::Partly(_) => "partly",
            Self::Conflict => "conflict",
            Self::TooMuch => "too_much",
        }
    }

    /// A field that cannot be written.
    pub(super) fn field(field: &str, reason: impl Into<String>) -> Self {
        Self::Field { field: field.to_owned(), reason: reason.into() }
    }

    /// A write of several rows, of which the table kept some from being written; `written` says which went through.
    pub(super) fn partly_suppressed(written: &str) -> Self {
        Self::Partly(format!("{written}; a trigger of the table, or a policy for rows, kept the others as they were"))
    }

    /// A write that the table kept from happening.
    pub(crate) fn suppressed() -> Self {
        Self::Data(SUPPRESSED.into())
    }

    /// With the store's own words, which may quote values: for the client who asked.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self {
            Self::Refused(words) | Self::Schema(words) | Self::Data(words) => {
                REFUSED.to_owned() + &for_who_asked(words)
            }
            Self::Overloaded(words) => OVERLOADED.to_owned() + &for_who_asked(words),
            Self::Transient(words) => NOT_NOW.to_owned() + &for_who_asked(words),
            other => other.to_string(),
        }
    }

    /// True unless it is known that nothing has changed.
    #[must_use]
    pub const fn may_have_changed(&self) -> bool {
        matches!(self, Self::Ambiguous(_) | Self::Partly(_))
    }

    /// True when nothing more can be done in the transaction that met it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_)
                | Self::Overloaded(_)
                | Self::ReadOnly(_)
                | Self::Open
                | Self::Loading(_)
                | Self::Ambiguous(_)
                | Self::Conflict
                | Self::TooMuch
        )
    }

    /// True when another attempt to read may succeed, so that what is there is not known.
    #[must_use]
    pub const fn keeps_from_reading(&self) -> bool {
        self.is_final() || matches!(self, Self::Transient(_) | Self::Limited(_))
    }

    /// True of an error of one mapping's statement that another attempt may not meet: the store is there.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Overloaded(_) | Self::Conflict) || !self.is_final()
    }

    /// True of what the store answered to one statement over a connection that goes on: nothing of it was done, and
    /// another statement may go.
    #[must_use]
    pub const fn is_of_one_statement(&self) -> bool {
        matches!(
            self,
            Self::Overloaded(_)
                | Self::Transient(_)
                | Self::Conflict
                | Self::Refused(_)
                | Self::Schema(_)
                | Self::Data(_)
                | Self::Field { .. }
                | Self::Value(_)
        )
    }

    /// True when the same may go well at another time, although nobody changes a value or the configuration.
    #[must_use]
    pub const fn is_of_the_moment(&self) -> bool {
        self.keeps_from_reading() || matches!(self, Self::Faulty(_) | Self::Schema(_))
    }

    /// True when the store does not take these values, or what it would do with them: nothing has changed, and trying
    /// again does not help.
    #[must_use]
    pub const fn is_about_a_record(&self) -> bool {
        self.is_about_values() || matches!(self, Self::Refused(_))
    }

    /// True when the values are at fault, and neither the statement nor the store.
    #[must_use]
    pub const fn is_about_values(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Field { .. } | Self::Value(_))
    }

    /// A `store.url` that cannot be read, and one that can.
    pub(super) fn of_url(error: &sqlx::Error, like: &str) -> Self {
        let text = error.to_string();
        // The driver says so once for each of its layers.
        let layer = "error with configuration";
        let why = text.trim_start_matches(&format!("{layer}: ")).trim_start_matches(layer);
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        Self::Refused(format!("cannot be read{why}; write it as {like}"))
    }

    /// A write to the overflow column whose field is a column now.
    pub(super) fn member_is_column() -> Self {
        Self::Schema("a field that was kept in the overflow column is a column of the table now".into())
    }

    /// One fault of a mapping.
    pub(super) fn fault(key: &'static str, message: impl Into<String>) -> Self {
        Self::Faults(vec![(key, message.into())])
    }
}

//! What can go wrong with the store, whose fault it is, and whether another attempt helps.

/// A failure of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or not in time. Trying again later is safe.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It failed so often that nothing is sent for a moment.
    #[error("the store does not answer; the circuit breaker is open and tries again soon")]
    Open,
    /// It has not been there since the sidecar began. Trying again later is safe.
    #[error("{0}")]
    Loading(String),
    /// It answered that the statement is wrong. Trying again does not help.
    #[error("the store refused: {0}")]
    Refused(String),
    /// The statement does not fit the schema any more: nothing has changed, and a statement for the schema of now may
    /// go.
    #[error("the store refused: {0}")]
    Schema(String),
    /// The mapping does not fit the schema: the keys of its block, and what is wrong. It is tried again every few
    /// seconds.
    #[error("{0}")]
    Faulty(String),
    /// A file that stands for a table cannot be read, or holds something else: file, line and what is wrong.
    #[error("{0}")]
    File(String),
    /// It answered that it does not take these values; nothing has changed. Other values may go.
    #[error("the store refused: {0}")]
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

/// That is all that can be known: who waits for a silent server has no turn, as behind others' statements.
const NO_TURN: &str =
    "no connection within store.connect_timeout: all are busy (store.max_connections), or the server is silent";

/// What a write says that the table kept from happening.
const SUPPRESSED: &str = "a trigger of the table, or a policy for rows, kept the row as it was; nothing was written";

/// The same of a write of several rows, some of which went through.
pub(super) const PARTLY_SUPPRESSED: &str =
    "a trigger of the table, or a policy for rows, kept some of the rows as they were; the others are written";

/// A field in the words of an error.
fn named(field: &str) -> String {
    if field.is_empty() { "the value".to_owned() } else { format!("the field '{field}'") }
}

impl StoreError {
    /// A field that cannot be written.
    pub(super) fn field(field: &str, reason: impl Into<String>) -> Self {
        Self::Field { field: field.to_owned(), reason: reason.into() }
    }

    /// A write that the table kept from happening.
    pub(crate) fn suppressed() -> Self {
        Self::Data(SUPPRESSED.into())
    }

    /// True when nothing more can be done in the transaction that met it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Open | Self::Loading(_) | Self::Ambiguous(_) | Self::Conflict | Self::TooMuch
        )
    }

    /// True when the values are at fault, and neither the statement nor the store.
    #[must_use]
    pub const fn is_about_values(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Field { .. } | Self::Value(_))
    }

    /// What became of a statement that writes, was sent, and failed so: without an answer nobody knows.
    pub(super) fn of_write(error: sqlx::Error) -> Self {
        let is_answer = matches!(error, sqlx::Error::Database(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed);
        match Self::from(error) {
            Self::Unavailable(text) if !is_answer => Self::Ambiguous(text),
            other => other,
        }
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

    /// One fault of a mapping.
    pub(super) fn fault(key: &'static str, message: impl Into<String>) -> Self {
        Self::Faults(vec![(key, message.into())])
    }
}

/// Postgres: 0A000 is a statement whose result has another type now, 22P03 a parameter that was prepared for another
/// type, 3F000 a schema that is gone; 42P01, 42703, 42883 and 42704 are tables, columns, functions and types that are
/// not there, 42804 and 42846 types that do not fit, 42809 a table that is a view now or the other way round, 42P10 a
/// unique index that is gone. SQLite: 17 is a schema that has changed, and 1 says it in words.
/// Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>, <https://www.sqlite.org/rescode.html>
fn is_about_schema(code: &str, message: &str) -> bool {
    let codes =
        ["0A000", "22P03", "3F000", "42P01", "42703", "42883", "42704", "42804", "42846", "42809", "42P10", "17"];
    let words = ["no such table", "no such column", "has no column named"];
    codes.contains(&code) || code == "1" && words.iter().any(|words| message.contains(words))
}

/// Postgres: 22 are data exceptions, 23 constraints, 44 a view's check, P0 what triggers raise; SQLite: 19 are
/// constraints and what triggers raise, 20 is a type that does not fit.
/// Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>, <https://www.sqlite.org/rescode.html>
fn is_about_values(code: &str) -> bool {
    match code.len() {
        5 => ["22", "23", "44", "P0"].iter().any(|class| code.starts_with(class)),
        _ => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 19 | 20)),
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // The database's own words only: details would quote values.
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or_default();
                // A serialization failure, or a deadlock.
                if matches!(&*code, "40001" | "40P01") {
                    return Self::Conflict;
                }
                let text = format!("{} ({code})", inner.message());
                // 08: connection, 53: resources, 57: operator intervention; 57014 is our own statement timeout.
                let away = ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                    || inner.message().contains("database is locked");
                match () {
                    () if away => Self::Unavailable(text),
                    () if is_about_schema(&code, inner.message()) => Self::Schema(text),
                    () if is_about_values(&code) => Self::Data(text),
                    () => Self::Refused(text),
                }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Schema(error.to_string())
            }
            sqlx::Error::Encode(_) => Self::Refused(error.to_string()),
            sqlx::Error::PoolTimedOut => Self::Unavailable(NO_TURN.into()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

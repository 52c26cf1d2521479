//! What can go wrong with the store, whose fault it is, and whether another attempt helps.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// A failure of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or not in time. Trying again later is safe.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It is there, and did not come to this in time: nothing has changed. Trying again later is safe.
    #[error("the store is overloaded: {0}")]
    Overloaded(String),
    /// It takes reads only, in its own words: nothing has changed. Trying again helps when that has ended.
    #[error(
        "the store takes reads only, because it is a hot standby or default_transaction_read_only is on ({0}); promote \
         it, switch the setting off, or let store.url lead to the primary"
    )]
    ReadOnly(String),
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

/// What is said of a text that is none.
const NO_TEXT: &str = "a text that the store holds is no UTF-8";

/// What is said of a text that cannot be stored, or read.
pub(super) const UNTRANSLATABLE: &str = "the encoding of the database does not have one of the characters, or UTF-8 \
    does not";

/// A field in the words of an error.
fn named(field: &str) -> String {
    if field.is_empty() { "the value".to_owned() } else { format!("the field '{field}'") }
}

impl StoreError {
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

    /// True of an error of one mapping's statement that another attempt may not meet: the store is there.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Overloaded(_) | Self::Conflict) || !self.is_final()
    }

    /// True when the values are at fault, and neither the statement nor the store.
    #[must_use]
    pub const fn is_about_values(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Field { .. } | Self::Value(_))
    }

    /// What became of a statement that writes and failed so: without an answer that can be read nobody knows, if it was
    /// sent.
    pub(super) fn of_write(error: sqlx::Error) -> Self {
        match Fate::of(&error) {
            Fate::Unknown | Fate::Unreadable => Self::Ambiguous(error.to_string()),
            Fate::Unconnected | Fate::Unsent | Fate::Answered => error.into(),
        }
    }

    /// What became of a transaction of SQLite whose COMMIT failed so. After an error of the disk (10) it may be in the
    /// file, and the next who opens it finds it there or not.
    pub(super) fn of_commit(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        match code.map(|code| code & 0xff) {
            Some(10) => Self::Ambiguous(error.to_string()),
            _ => Self::of_write(error),
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

    /// A write to the overflow column whose field is a column now.
    pub(super) fn member_is_column() -> Self {
        Self::Schema("a field that was kept in the overflow column is a column of the table now".into())
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

/// How far a statement got that failed.
enum Fate {
    /// There was no connection to send it over.
    Unconnected,
    /// The driver did not send it, and would not another time.
    Unsent,
    /// The database answered that it was not done.
    Answered,
    /// It was done, and the driver cannot read what the database answered.
    Unreadable,
    /// No answer.
    Unknown,
}

/// What the driver says of a message that it does not send.
const UNSENT: [&str; 5] = [
    "too many arguments for query",
    "too large for binary protocol",
    "too many parameter format codes",
    "message size out of range",
    "error allocating",
];

impl Fate {
    /// Of what a database says. What is fatal says that the connection has ended, and of the statement nothing: one
    /// that was committed may be answered so, when its server is ended while it waits for a standby. Only of these
    /// codes it is known that nothing was done: nobody is let in (28, 3D, 42501, 53, 57P03), or the session was ended
    /// with whatever it had begun (25P03, 25P04, 57P05, 40001 on a standby). A pooler says 08P01 when it has lost the
    /// server.
    fn answered(is_fatal: bool, code: &str) -> Self {
        let is_undone = matches!(code, "25P03" | "25P04" | "57P03" | "57P05" | "42501" | "40001")
            || ["28", "3D", "53"].iter().any(|class| code.starts_with(class));
        if is_fatal && !is_undone { Self::Unknown } else { Self::Answered }
    }

    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(inner) => Self::answered(is_fatal(inner.as_ref()), &inner.code().unwrap_or_default()),
            sqlx::Error::Configuration(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::BeginFailed => Self::Unconnected,
            sqlx::Error::InvalidArgument(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::InvalidSavePointStatement => Self::Unsent,
            sqlx::Error::Protocol(text) if UNSENT.iter().any(|unsent| text.contains(unsent)) => Self::Unsent,
            sqlx::Error::RowNotFound
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_) => Self::Unreadable,
            _ => Self::Unknown,
        }
    }
}

/// Of a database's answer that a statement was not done, by its code.
///
/// Postgres: 25006 is a write that a hot standby or a setting forbids; 08 is the connection, of which 08P01 is a
/// message that it does not take; 57P end it; 53 are resources, 55P03 a lock that did not come free, and 57014 a
/// statement that was cancelled, by our own `statement_timeout` as a rule; 25P03, 25P04 and 57P05 end a session or a
/// transaction that takes longer than the server lets it; 22 are data exceptions, of which 22021 and 22P05 are about a
/// text in another encoding and would quote its bytes; 23 are constraints, 44 a view's check, P0 what triggers raise;
/// 40001 is a serialization failure, or a read that a standby's replay ended, 40P01 a deadlock. SQLite: 5 and 6 are
/// locks, 19 constraints and what triggers raise, 20 a type that does not fit.
/// Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>, <https://www.sqlite.org/rescode.html>
fn answered(code: &str, message: &str) -> StoreError {
    let text = format!("{message} ({code})");
    let sqlite = code.parse::<u32>().ok().filter(|_| code.len() < 5).map(|code| code & 0xff);
    match (code, sqlite) {
        (_, Some(5 | 6)) | ("25P03" | "25P04" | "55P03" | "57014" | "57P05", _) => StoreError::Overloaded(text),
        (_, Some(19 | 20)) => StoreError::Data(text),
        ("40001" | "40P01", _) => StoreError::Conflict,
        _ if is_about_schema(code, message) => StoreError::Schema(text),
        ("25006", _) => StoreError::ReadOnly(text),
        ("08P01", _) => StoreError::Refused(text),
        ("22021", _) => StoreError::Data(format!("{NO_TEXT} ({code})")),
        ("22P05", _) => StoreError::Data(format!("{UNTRANSLATABLE} ({code})")),
        _ => match code.get(..2).unwrap_or_default() {
            "53" => StoreError::Overloaded(text),
            "08" | "57" => StoreError::Unavailable(text),
            "22" | "23" | "44" | "P0" => StoreError::Data(text),
            _ => StoreError::Refused(text),
        },
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match (&error, Fate::of(&error)) {
            // The database's own words only: details would quote values.
            (sqlx::Error::Database(inner), Fate::Answered) => {
                let code = inner.code().unwrap_or_default();
                answered(&code, inner.message())
            }
            (sqlx::Error::PoolTimedOut, _) => Self::Unavailable("no connection within store.connect_timeout".into()),
            (_, Fate::Unsent) => Self::Refused(error.to_string()),
            (_, Fate::Unreadable) => Self::Schema(error.to_string()),
            (sqlx::Error::Database(inner), _) => {
                Self::Unavailable(format!("{} ({})", inner.message(), inner.code().unwrap_or_default()))
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// True when an error has ended its connection.
fn is_fatal(error: &dyn sqlx::error::DatabaseError) -> bool {
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
}

#[cfg(test)]
mod tests {
    use super::{Fate, StoreError, answered};

    #[test]
    fn what_was_not_sent_is_refused_and_what_has_no_answer_may_have_been_done() {
        let io = || sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        let long = || sqlx::Error::Protocol("PgConnection::run(): too many arguments for query: 70002".into());
        let garbage = || sqlx::Error::Protocol("unknown message type: '?'".into());
        let is = |error: StoreError| match error {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Refused(_) => "refused",
            StoreError::Schema(_) => "of another schema",
            StoreError::Ambiguous(_) => "ambiguous",
            _ => "something else",
        };
        for (error, read, write) in [
            (&io as &dyn Fn() -> sqlx::Error, "unavailable", "ambiguous"),
            (&garbage, "unavailable", "ambiguous"),
            (&long, "refused", "refused"),
            (&|| sqlx::Error::Encode("no".into()), "refused", "refused"),
            (&|| sqlx::Error::InvalidArgument("no".into()), "refused", "refused"),
            (&|| sqlx::Error::TypeNotFound { type_name: "t".into() }, "refused", "refused"),
            (&|| sqlx::Error::RowNotFound, "of another schema", "ambiguous"),
            (&|| sqlx::Error::Decode("no".into()), "of another schema", "ambiguous"),
            (&|| sqlx::Error::PoolTimedOut, "unavailable", "unavailable"),
            (&|| sqlx::Error::Tls("no".into()), "unavailable", "unavailable"),
            (&|| sqlx::Error::WorkerCrashed, "unavailable", "ambiguous"),
        ] {
            assert_eq!((is(error().into()), is(StoreError::of_write(error()))), (read, write), "{}", error());
        }
    }

    #[test]
    fn a_store_that_answers_is_not_away() {
        let text = |code| format!("a text ({code})");
        for code in ["57014", "55P03", "53300", "53200", "25P03", "25P04", "57P05", "5", "6", "517"] {
            assert_eq!(answered(code, "a text"), StoreError::Overloaded(text(code)), "{code}");
        }
        for code in ["57P01", "57P03", "08006"] {
            assert_eq!(answered(code, "a text"), StoreError::Unavailable(text(code)), "{code}");
        }
        let quoting = "character with byte sequence 0xe2 0x82 0xac has no equivalent";
        for code in ["22P05", "22021"] {
            assert!(!answered(code, quoting).to_string().contains("0x"), "{code}");
        }
        for code in ["23505", "22P02", "P0001", "19", "2067", "20"] {
            assert_eq!(answered(code, "a text"), StoreError::Data(text(code)), "{code}");
        }
        for code in ["42601", "08P01", "54000", "1", ""] {
            assert_eq!(answered(code, "a text"), StoreError::Refused(text(code)), "{code}");
        }
        assert_eq!(answered("42703", "a text"), StoreError::Schema(text("42703")));
        assert_eq!(answered("40P01", "a text"), StoreError::Conflict);
        assert_eq!(answered("25006", "a text"), StoreError::ReadOnly(text("25006")));
    }

    #[test]
    fn whether_a_statement_was_done_that_ended_its_connection() {
        let of = |is_fatal, code: &str, writes: bool| match Fate::answered(is_fatal, code) {
            Fate::Answered => match answered(code, "") {
                StoreError::Overloaded(_) => "overloaded",
                StoreError::Unavailable(_) => "down",
                StoreError::Refused(_) => "refused",
                StoreError::Conflict => "conflict",
                _ => "something else",
            },
            _ if writes => "unknown",
            _ => "down",
        };
        for (code, read, write) in [
            ("57P01", "down", "unknown"),
            ("57P02", "down", "unknown"),
            ("57P04", "down", "unknown"),
            ("08P01", "down", "unknown"),
            ("XX000", "down", "unknown"),
            ("57P03", "down", "down"),
            ("53300", "overloaded", "overloaded"),
            ("53200", "overloaded", "overloaded"),
            ("57P05", "overloaded", "overloaded"),
            ("25P03", "overloaded", "overloaded"),
            ("25P04", "overloaded", "overloaded"),
            ("40001", "conflict", "conflict"),
            ("28P01", "refused", "refused"),
            ("28000", "refused", "refused"),
            ("3D000", "refused", "refused"),
            ("42501", "refused", "refused"),
        ] {
            assert_eq!((of(true, code, false), of(true, code, true)), (read, write), "{code}");
        }
        for (code, both) in [("57014", "overloaded"), ("08P01", "refused"), ("XX000", "refused"), ("42501", "refused")]
        {
            assert_eq!((of(false, code, false), of(false, code, true)), (both, both), "{code}, not fatal");
        }
    }
}

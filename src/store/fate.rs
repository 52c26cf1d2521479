//! What became of a statement that failed, by what the driver says of it: it was never sent, the database answered, or
//! nobody knows.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::StoreError;
use super::error::UNTRANSLATABLE;
use crate::errors::store_words::RAISED;

/// What is said of a text that is none.
const NO_TEXT: &str = "a text that the store holds is no UTF-8";

impl StoreError {
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

/// Of a database's answer that a statement was not done, by its code. Codes about connections (08, 57P) say that the
/// store is away only where they have ended ours: others come from a trigger, or from a server behind a foreign table.
///
/// Postgres: 25006 is a write that a hot standby or a setting forbids; 08 is the connection, of which 08P01 is a
/// message that it does not take; 57P end it; HV00N is a foreign server that is away; 53 are resources, 55P03 a lock
/// that did not come free, and 57014 a statement that was cancelled, by our own `statement_timeout` as a rule; 25P03,
/// 25P04 and 57P05 end a session or a transaction that takes longer than the server lets it; 22 are data exceptions, of
/// which 22021 and 22P05 are about a text in another encoding and would quote its bytes; 23 are constraints, 44 a
/// view's check, P0 what triggers raise; 40001 is a serialization failure, or a read that a standby's replay ended,
/// 40P01 a deadlock. SQLite: 5 and 6 are locks, 19 constraints and what triggers raise, 20 a type that does not fit.
/// Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>, <https://www.sqlite.org/rescode.html>
fn answered(is_fatal: bool, code: &str, message: &str, raised: &str) -> StoreError {
    let full = if code == "53100" { "its disk is full, and somebody must make room there: " } else { "" };
    let text = format!("{full}{message} ({code}{raised})");
    let sqlite = code.parse::<u32>().ok().filter(|_| code.len() < 5).map(|code| code & 0xff);
    match (code, sqlite) {
        (_, Some(5 | 6)) | ("25P03" | "25P04" | "55P03" | "57014" | "57P05", _) => StoreError::Overloaded(text),
        (_, Some(19 | 20)) => StoreError::Data(text),
        ("40001" | "40P01", _) => StoreError::Conflict,
        _ if is_about_schema(code, message) => StoreError::Schema(text),
        ("25006", _) => StoreError::ReadOnly(text),
        ("08P01", _) => StoreError::Refused(text),
        ("HV00N", _) => StoreError::Transient(text),
        ("22021", _) => StoreError::Data(format!("{NO_TEXT} ({code})")),
        ("22P05", _) => StoreError::Data(format!("{UNTRANSLATABLE} ({code})")),
        _ => match code.get(..2).unwrap_or_default() {
            "53" => StoreError::Overloaded(text),
            "08" | "57" if is_fatal => StoreError::Unavailable(text),
            "08" | "57" => StoreError::Transient(text),
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
                let raised = if is_raised(inner.as_ref()) { RAISED } else { "" };
                answered(is_fatal(inner.as_ref()), &code, inner.message(), raised)
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

/// True when an error's words are those of a function of the database's, whatever code it gave: the servers of the
/// languages that functions are written in say so in the field `R` of the protocol's message.
/// Source: <https://www.postgresql.org/docs/current/protocol-error-fields.html>
fn is_raised(error: &dyn sqlx::error::DatabaseError) -> bool {
    let routine = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
    let languages = ["exec_stmt_raise", "PLy_", "plperl", "croak", "throw_tcl", "pltcl"];
    routine.is_some_and(|routine| languages.iter().any(|language| routine.starts_with(language)))
}

/// True when an error has ended its connection.
pub(super) fn is_fatal(error: &dyn sqlx::error::DatabaseError) -> bool {
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
            assert_eq!(answered(false, code, "a text", ""), StoreError::Overloaded(text(code)), "{code}");
        }
        for code in ["57P01", "57P03", "08006"] {
            assert_eq!(answered(true, code, "a text", ""), StoreError::Unavailable(text(code)), "{code}");
        }
        for code in ["57P01", "57P03", "08006", "08001", "HV00N"] {
            assert_eq!(answered(false, code, "a text", ""), StoreError::Transient(text(code)), "{code}");
        }
        let quoting = "character with byte sequence 0xe2 0x82 0xac has no equivalent";
        for code in ["22P05", "22021"] {
            assert!(!answered(false, code, quoting, "").to_string().contains("0x"), "{code}");
        }
        for code in ["23505", "22P02", "P0001", "19", "2067", "20"] {
            assert_eq!(answered(false, code, "a text", ""), StoreError::Data(text(code)), "{code}");
        }
        for code in ["42601", "08P01", "54000", "1", ""] {
            assert_eq!(answered(false, code, "a text", ""), StoreError::Refused(text(code)), "{code}");
        }
        assert!(answered(false, "53100", "a text", "").to_string().contains("make room there: a text (53100)"));
        assert_eq!(answered(false, "42703", "a text", ""), StoreError::Schema(text("42703")));
        assert_eq!(answered(false, "40P01", "a text", ""), StoreError::Conflict);
        assert_eq!(answered(false, "25006", "a text", ""), StoreError::ReadOnly(text("25006")));
    }

    #[test]
    fn whether_a_statement_was_done_that_ended_its_connection() {
        let of = |is_fatal, code: &str, writes: bool| match Fate::answered(is_fatal, code) {
            Fate::Answered => match answered(is_fatal, code, "", "") {
                StoreError::Overloaded(_) => "overloaded",
                StoreError::Unavailable(_) => "down",
                StoreError::Transient(_) => "transient",
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
        for (code, both) in
            [("57014", "overloaded"), ("08P01", "refused"), ("XX000", "refused"), ("57P01", "transient")]
        {
            assert_eq!((of(false, code, false), of(false, code, true)), (both, both), "{code}, not fatal");
        }
    }
}

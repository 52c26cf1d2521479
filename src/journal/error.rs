//! The reasons why a journal does not accept a write.

/// Why a journal does not take a write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// As much waits, or lies aside, as may; with the bytes that do either.
    #[error("the journal is full (journal.max_bytes): {}", full(*.waiting, *.aside))]
    Full {
        /// Bytes that wait for the store.
        waiting: u64,
        /// Bytes that were put aside.
        aside: u64,
    },
    /// Its file cannot be written or read.
    #[error("the journal's file: {0}")]
    File(String),
    /// Its files were removed or replaced while it is in use, and it cannot be made again now.
    #[error("the journal's files were removed or replaced while it is in use, and it cannot be made again: {0}")]
    Replaced(String),
    /// Its files were removed or replaced at the moment at which this was written: it may be in the journal, or not.
    #[error("the journal's files were removed while it was written: {0}")]
    Unsure(String),
    /// Its writer has ended in a bug: this may be in the journal, or not.
    #[error("the journal's writer ended before it answered: the sidecar is to be started again")]
    Unanswered,
    /// Its file holds something that cannot be read.
    #[error("the journal's file is damaged: {0}; {REPAIR}")]
    Damaged(String),
    /// Its file is none that this version can read.
    #[error("the journal's file cannot be used: {0}")]
    Layout(String),
    /// Another process has it.
    #[error("the journal {0} is in use by another process; give each sidecar a journal.path of its own")]
    InUse(String),
}

/// What can be done about a file that is damaged.
const REPAIR: &str = "deferred writes wait in it that the store may not have. Keep a copy of it with its -wal and \
    .lock files; what can still be read of it is saved by `sqlite3 FILE .recover | sqlite3 NEW`: put NEW in its place. \
    Or move it away, and give up what waits in it (docs/OPERATIONS.md, \"A damaged journal\")";

/// SQLite's code for a page that makes no sense. Source: <https://www.sqlite.org/rescode.html>
const CORRUPT: u32 = 11;

/// True of any variant of that code.
fn is_about_damage(code: &str) -> bool {
    code.parse::<u32>().is_ok_and(|code| code & 0xff == CORRUPT)
}

/// Why it is full, by the larger part of what is in it.
fn full(waiting: u64, aside: u64) -> String {
    if waiting >= aside {
        return format!("{waiting} bytes of it wait, because the store has not taken deferred writes for long");
    }
    format!(
        "{aside} bytes of it were put aside because the store refuses them; `hearthside journal` shows them, and with \
         --retry or --remove clears them while no sidecar runs"
    )
}

impl From<sqlx::Error> for JournalError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) if error.code().is_some_and(|code| is_about_damage(&code)) => {
                Self::Damaged(error.message().to_owned())
            }
            sqlx::Error::Database(error) => Self::File(error.message().to_owned()),
            other => Self::File(other.to_string()),
        }
    }
}

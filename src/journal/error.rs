//! The reasons why a journal does not accept a write.

/// Why a journal does not take a write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// As much waits, or lies aside, as may; with the bytes that lie aside.
    #[error("the journal is full (journal.max_bytes): {}", full(*.0))]
    Full(u64),
    /// Its file cannot be written or read.
    #[error("the journal's file: {0}")]
    File(String),
    /// Its file is none that this version can read.
    #[error("the journal's file cannot be used: {0}")]
    Layout(String),
    /// Another process has it.
    #[error("the journal {0} is in use by another process; give each sidecar a journal.path of its own")]
    InUse(String),
}

/// Why it is full, by the bytes that lie aside in it.
fn full(aside: u64) -> String {
    match aside {
        0 => "the store has not taken deferred writes for long".to_owned(),
        _ => format!(
            "{aside} bytes of it were put aside because the store refuses them; `hearthside journal` shows them, and \
             with --retry or --remove clears them while no sidecar runs"
        ),
    }
}

impl From<sqlx::Error> for JournalError {
    fn from(error: sqlx::Error) -> Self {
        Self::File(match error {
            sqlx::Error::Database(error) => error.message().to_owned(),
            other => other.to_string(),
        })
    }
}

//! What can go wrong with the store: whose fault, and whether trying again helps.

/// A failure of the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or not in time. Trying again later is safe.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It failed so often that nothing is sent for a moment.
    #[error("the store does not answer; the circuit breaker is open and tries again soon")]
    Open,
    /// It answered that the statement is wrong. Trying again does not help.
    #[error("the store refused: {0}")]
    Refused(String),
    /// The mapping does not fit the store: `key of the block`, what is wrong.
    #[error("{}", .0.iter().map(|(key, fault)| format!("{key}: {fault}")).collect::<Vec<_>>().join("; "))]
    Faults(Vec<(&'static str, String)>),
}

impl StoreError {
    /// One fault of a mapping.
    pub(super) fn fault(key: &'static str, message: impl Into<String>) -> Self {
        Self::Faults(vec![(key, message.into())])
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // The database's own words only: details would quote values.
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or_default();
                let text = format!("{} ({code})", inner.message());
                // 08: connection, 53: resources, 57: operator intervention; 57014 is our own statement timeout.
                let away = ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                    || inner.message().contains("database is locked");
                if away { Self::Unavailable(text) } else { Self::Refused(text) }
            }
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_) => Self::Refused(error.to_string()),
            sqlx::Error::PoolTimedOut => Self::Unavailable("no connection became free in time".into()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

//! Whose sessions statements run in: ours, each for as long as its connection is open, or those that a pooler lends
//! for a single transaction (decision 0025). Knows no statement.
//!
//! In a lent session nothing lasts: what a statement needs to be set is set in its own transaction, and it is prepared
//! without a name.

use std::ops::{Deref, DerefMut};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Postgres, Transaction};

use super::setup::CurrentSetup;
use crate::config::{self, Pooler};

/// What every session must have set, whatever the role's and the database's own values are. The texts of keys are those
/// that change triggers make (`store/triggers/function.rs`). Rows that a policy hides are hidden: with `row_security`
/// off a statement that meets a policy fails.
pub(super) const FIXED: [(&str, &str); 5] = [
    ("TimeZone", "UTC"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("row_security", "on"),
];

/// What the driver sets in sessions of our own.
const OF_DRIVER: [(&str, &str); 2] = [("DateStyle", "ISO, MDY"), ("extra_float_digits", "2")];

/// Whose they are.
#[derive(Clone, Debug)]
pub(super) enum Sessions {
    /// Each is ours, from the opening of its connection to the end.
    Own,
    /// Each is lent for one transaction.
    Lent {
        /// Milliseconds.
        statement_timeout: u128,
        setup: CurrentSetup,
    },
}

impl Sessions {
    pub(super) fn of(settings: &config::Store, setup: CurrentSetup) -> Self {
        match settings.pooler {
            Pooler::None => Self::Own,
            Pooler::Transaction => Self::Lent { statement_timeout: settings.query_timeout.as_millis(), setup },
        }
    }

    /// Whether a statement that was prepared is there the next time.
    pub(super) const fn keep_statements(&self) -> bool {
        matches!(self, Self::Own)
    }

    /// Where statements run one after the other in one session.
    ///
    /// # Errors
    /// Nothing has been done then.
    pub(super) async fn enter<'c>(&self, connection: &'c mut PgConnection) -> Result<Unit<'c>, sqlx::Error> {
        Ok(match self {
            Self::Own => Unit::Session(connection),
            Self::Lent { .. } => {
                Unit::Transaction(connection.begin_with(AssertSqlSafe(self.beginning(COMMITTED))).await?)
            }
        })
    }

    /// A transaction; with `snapshot`, it reads everything as it is at its first statement.
    ///
    /// # Errors
    /// Nothing has been done then.
    pub(super) async fn begin(
        &self,
        pool: &PgPool,
        snapshot: bool,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let begin = match self {
            _ if snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Self::Own => "BEGIN",
            Self::Lent { .. } => COMMITTED,
        };
        pool.begin_with(AssertSqlSafe(self.beginning(begin))).await
    }

    /// The first text of a transaction.
    fn beginning(&self, begin: &str) -> String {
        let Self::Lent { statement_timeout, setup } = self else { return begin.to_owned() };
        let set = |(name, value): &(&str, &str)| format!("; SET LOCAL {name} = '{value}'");
        let fixed: String = FIXED.iter().chain(&OF_DRIVER).map(set).collect();
        format!("{begin}; SET LOCAL statement_timeout = {statement_timeout}{fixed}{}", setup.get().for_a_transaction())
    }
}

/// The statements are made for READ COMMITTED, whatever the database's default is.
const COMMITTED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Where statements run in one session: a connection of our own, or a transaction of a pooler's.
pub(super) enum Unit<'c> {
    Session(&'c mut PgConnection),
    Transaction(Transaction<'c, Postgres>),
}

impl Unit<'_> {
    /// False when each statement is committed by itself.
    pub(super) const fn is_transaction(&self) -> bool {
        matches!(self, Self::Transaction(_))
    }

    /// Ends the transaction, if it is one: what went well is committed. An error of the commit becomes what `failed`
    /// says.
    pub(super) async fn leave<T, E>(self, result: Result<T, E>, failed: fn(sqlx::Error) -> E) -> Result<T, E> {
        let Self::Transaction(transaction) = self else { return result };
        match result {
            Ok(value) => transaction.commit().await.map(|()| value).map_err(failed),
            Err(error) => {
                // Where this fails too, the connection is gone, and the transaction with it.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }
}

impl Deref for Unit<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Session(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl DerefMut for Unit<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Session(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sessions;
    use crate::store::postgres::setup::{CurrentSetup, Setup};

    #[test]
    fn a_lent_session_is_set_up_in_each_transaction() {
        let setup = Setup { role: "none".into(), search_path: "public".into(), known: String::new() };
        let lent = Sessions::Lent { statement_timeout: 5000, setup: CurrentSetup::new(setup) };
        let text = "BEGIN; SET LOCAL statement_timeout = 5000; SET LOCAL TimeZone = 'UTC'; \
                    SET LOCAL IntervalStyle = 'postgres'; SET LOCAL bytea_output = 'hex'; \
                    SET LOCAL standard_conforming_strings = 'on'; SET LOCAL row_security = 'on'; \
                    SET LOCAL DateStyle = 'ISO, MDY'; SET LOCAL extra_float_digits = '2'; \
                    SELECT pg_catalog.set_config('role', E'none', true), \
                    pg_catalog.set_config('search_path', E'public', true)";
        assert_eq!(lent.beginning("BEGIN"), text);
        assert_eq!(Sessions::Own.beginning("BEGIN"), "BEGIN");
    }
}

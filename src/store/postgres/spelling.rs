//! How the text of a key stands to the types of its columns, which the database alone knows of those that a statement
//! casts to, and to the database's encoding, which may lack some characters. Knows no statement of a mapping.

use sqlx::{AssertSqlSafe, PgExecutor};

use super::params::Bound;
use crate::store::catalog::described::Param;
use crate::store::dialect::Dialect;
use crate::store::plan::Plan;

/// How a key is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As its columns write it.
    Own,
    /// Otherwise: they write the same value in another way (1.50 for 1.5).
    Other,
    /// It is no value of its columns, or has characters that the database's encoding lacks.
    NoValue,
}

/// True when the database alone can say it. All of its encodings have the characters of ASCII.
fn is_unclear((param, bound): (&Param, &Bound)) -> bool {
    match param {
        Param::Cast { .. } => true,
        Param::Text => !bound.is_ascii(),
        Param::Int(_) | Param::Uuid | Param::Date => false,
    }
}

/// True of an error that may say of a text that it is no value of a type; whether it is the key's text, it does not
/// say. Types of extensions have codes of their own for that: ltree 42601, hstore XX000.
pub(super) fn is_about_a_text(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("22") || ["42601", "XX000"].contains(&&*code))
}

/// True when the database has to be asked how a key is spelled.
pub(super) fn is_to_be_asked(plan: &Plan, bound: &[Bound]) -> bool {
    plan.params.iter().zip(bound).any(is_unclear)
}

/// Asks the database about a key; `keep`: the statement stays prepared. An error about the text is an answer, and fails
/// the transaction in which it is asked.
pub(super) async fn spelling(
    connection: impl PgExecutor<'_>,
    keep: bool,
    plan: &Plan,
    bound: &[Bound],
) -> Result<Spelling, sqlx::Error> {
    if !is_to_be_asked(plan, bound) {
        return Ok(Spelling::Own);
    }
    let is_own = |(i, param): (usize, &Param)| match param {
        Param::Cast { .. } => format!("{}::text = ${}::text", Dialect::Postgres.bound(i + 1, param), i + 1),
        // Each parameter that is bound must stand in the statement.
        Param::Int(_) | Param::Text | Param::Uuid | Param::Date => format!("${} IS NOT NULL", i + 1),
    };
    let conditions: Vec<String> = plan.params.iter().enumerate().map(is_own).collect();
    let ask = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {}", conditions.join(" AND ")))).persistent(keep);
    match bound.iter().fold(ask, |ask, value| ask.bind(value.clone())).fetch_one(connection).await {
        Ok(true) => Ok(Spelling::Own),
        Ok(false) => Ok(Spelling::Other),
        Err(error) if is_about_a_text(&error) => Ok(Spelling::NoValue),
        Err(error) => Err(error),
    }
}

//! What the names of tables in a configuration mean, as SQL takes them in sessions with any search path. The role of
//! `store.url` is asked: others may mean other tables by the same names.

use std::collections::HashMap;

use sqlx::PgPool;

use super::interest::by_table;
use crate::mapping::Mapping;
use crate::store::StoreError;

/// Tables, by their names in the configuration.
#[derive(Debug)]
pub(super) enum Names {
    /// Their names with their schemas, quoted where that is needed. Those that do not exist are not among them.
    Known(HashMap<String, String>),
    /// Nobody could be asked, for this reason.
    Unasked(String),
}

impl Names {
    /// Those of the tables that these mappings watch.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn of(pool: &PgPool, mappings: &[Mapping]) -> Result<Self, StoreError> {
        let mut known = HashMap::new();
        for table in by_table(mappings) {
            let full = qualified(pool, &table.table).await?;
            known.extend(full.map(|full| (table.table, full)));
        }
        Ok(Self::Known(known))
    }
}

/// A table's name with its schema, quoted where that is needed; `None` where there is no table of this name, or it is
/// in a schema that the role may not use.
///
/// # Errors
/// The server does not answer.
pub(super) async fn qualified(pool: &PgPool, name: &str) -> Result<Option<String>, StoreError> {
    let ask = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c \
        JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";
    match sqlx::query_scalar(ask).bind(name).fetch_optional(pool).await {
        Err(sqlx::Error::Database(_)) => Ok(None),
        found => Ok(found?),
    }
}

//! Makes a mapping's plan from what an engine's catalog says about the columns of its table (`from_table`), or about
//! what its query selects (`from_query`). The same for both engines, which read their catalogs themselves.

mod from_query;
mod from_table;

use super::StoreError;
use super::catalog::described::{Described, Param};
use super::catalog::relation::Relation;
use super::catalog::requirements::{ColumnFault, unfit_kind, untold_fault};
use super::catalog::unique::UniqueIndex;
use super::dialect::Dialect;
use super::plan::Plan;
use super::postgres::PostgresCatalog;
use super::sqlite::SqliteCatalog;
use crate::config::MappingConfig;
use crate::mapping::Mapping;

/// An engine's catalog, as it can be asked.
#[derive(Debug)]
pub(super) enum Catalog<'s> {
    Postgres(PostgresCatalog<'s>),
    Sqlite(SqliteCatalog),
}

impl Catalog<'_> {
    const fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// The table of this name; `None` when there is none.
    async fn relation(&self, name: &str) -> Result<Option<Relation>, StoreError> {
        match self {
            Self::Postgres(catalog) => catalog.relation(name).await,
            Self::Sqlite(catalog) => catalog.relation(name).await,
        }
    }

    /// The table, whose columns say in which time zone they hold moments, where that matters to the mapping.
    async fn zoned(&self, relation: Relation, block: &MappingConfig) -> Result<Relation, StoreError> {
        match self {
            Self::Postgres(catalog) => catalog.zoned(relation, block).await,
            Self::Sqlite(_) => Ok(relation),
        }
    }

    /// The default of a column, as an expression.
    async fn default_of(&self, table: &str, column: &str) -> Result<Option<String>, StoreError> {
        match self {
            Self::Postgres(catalog) => catalog.default_of(table, column).await,
            Self::Sqlite(catalog) => catalog.default_of(table, column).await,
        }
    }

    /// The unique indexes of a table, with its primary key.
    async fn unique_indexes(&self, table: &str) -> Result<Vec<UniqueIndex>, StoreError> {
        match self {
            Self::Postgres(catalog) => catalog.unique_indexes(table).await,
            Self::Sqlite(catalog) => catalog.unique_indexes(table).await,
        }
    }

    /// The fault of a name that no table has, or one that may not be seen.
    async fn no_table(&self, name: &str) -> Result<String, StoreError> {
        let alike = match self {
            Self::Postgres(catalog) => match catalog.hidden(name).await? {
                Some(why) => return Ok(why),
                None => catalog.alike(name).await?,
            },
            Self::Sqlite(_) => None,
        };
        let hint = alike.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
        Ok(format!("there is no table '{name}'{hint}"))
    }

    /// Why deferred writes could not be noted, if so.
    async fn journal_faults(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Postgres(catalog) => catalog.journal_faults().await,
            Self::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// Asks whether a statement takes its parameters bound like that.
    async fn takes(&self, sql: &str, params: &[Param]) -> Result<(), StoreError> {
        match self {
            Self::Postgres(catalog) => catalog.takes(sql, params).await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    async fn describe(&self, sql: &str) -> Result<Described, StoreError> {
        match self {
            Self::Postgres(catalog) => catalog.describe(sql).await,
            Self::Sqlite(catalog) => catalog.describe(sql).await,
        }
    }
}

/// The statements of a mapping, checked against the store's tables and columns.
///
/// # Errors
/// [`StoreError::Faults`] lists everything that does not fit.
pub(super) async fn plan(catalog: &Catalog<'_>, mapping: &Mapping) -> Result<Plan, StoreError> {
    let mut faults = watch_faults(catalog, mapping).await?;
    let planned = match (&mapping.config.table, &mapping.config.query) {
        (Some(name), _) => from_table::plan(catalog, mapping, name).await,
        (None, Some(query)) => from_query::plan(catalog, mapping, query).await,
        (None, None) => Err(StoreError::fault("table", "has no table and no query")),
    };
    match planned {
        Ok(plan) if faults.is_empty() => with_several(catalog, plan).await,
        Ok(_) => Err(StoreError::Faults(faults)),
        Err(StoreError::Faults(more)) => {
            faults.extend(more);
            Err(StoreError::Faults(faults))
        }
        Err(other) => Err(other),
    }
}

/// The plan with a statement that loads several keys, where the engine takes one.
async fn with_several(catalog: &Catalog<'_>, mut plan: Plan) -> Result<Plan, StoreError> {
    if plan.one.is_empty() || plan.params.is_empty() {
        return Ok(plan);
    }
    let Some(several) = catalog.dialect().for_each(&plan.one, &plan.params) else { return Ok(plan) };
    match catalog.describe(&several).await {
        Ok(_) => plan.several = several,
        // Each key goes by a statement of its own then.
        Err(StoreError::Refused(_) | StoreError::Schema(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(plan)
}

/// What triggers on the watched tables would lack; the mapping's own table is judged with its columns.
async fn watch_faults(catalog: &Catalog<'_>, mapping: &Mapping) -> Result<Vec<ColumnFault>, StoreError> {
    let mut faults = Vec::new();
    if !catalog.dialect().has_triggers() {
        return Ok(faults);
    }
    for (name, wanted) in mapping.watched().into_iter().skip(usize::from(mapping.config.table.is_some())) {
        match catalog.relation(&name).await? {
            None => faults.push(("watch", catalog.no_table(&name).await?)),
            Some(relation) => {
                faults.extend(untold_fault(&name, &relation).map(|fault| ("watch", fault)));
                for (placeholder, column) in mapping.pattern.placeholders().zip(wanted.iter().flatten()) {
                    let fault = match relation.column(column) {
                        None => Some(format!("table '{name}' has no column '{column}'")),
                        Some(found) => {
                            unfit_kind(placeholder, &format!("the column '{column}' of '{name}'"), found.kind())
                        }
                    };
                    faults.extend(fault.map(|text| ("watch", text)));
                }
            }
        }
    }
    Ok(faults)
}

//! The plan of a mapping that shows a table's rows: a SELECT of its columns, and where its writes go.

use super::Catalog;
use crate::config::{DeleteMode, Shape, Timestamps};
use crate::keys::PlaceholderKind;
use crate::mapping::{Kind, Mapping};
use crate::store::StoreError;
use crate::store::catalog::described::Param;
use crate::store::catalog::relation::{Column, Holds, Relation, quote};
use crate::store::catalog::requirements::{
    ColumnFault, check_computed, check_keys, check_overflow, check_table, shows, untold_fault,
};
use crate::store::catalog::target::Target;
use crate::store::catalog::unique::check_unique;
use crate::store::dialect::Dialect;
use crate::store::listing::Listing;
use crate::store::log_form::LogForm;
use crate::store::plan::{KeySource, Plan, key_column};

/// # Errors
/// [`StoreError::Faults`] for what does not fit.
pub(super) async fn plan(catalog: &Catalog<'_>, mapping: &Mapping, name: &str) -> Result<Plan, StoreError> {
    let relation = relation(catalog, mapping, name).await?;
    let block = &mapping.config;
    let select = Select::of(catalog.dialect(), mapping, &relation);
    let mut plan = Plan { doubts: relation.doubts.clone(), ..Plan::new(mapping, KeySource::Extra) };
    plan.column_names = relation.columns.iter().map(|column| column.name.clone()).collect();
    if mapping.kind == Kind::Definition {
        plan.all = select.all();
        let doubt = check_rows(catalog, mapping, name, &relation).await?;
        plan.log_form = log_form(catalog, mapping, &relation, doubt.as_ref());
        plan.doubts.extend(doubt);
        return Ok(plan);
    }
    plan.params = params(mapping, &relation);
    plan.one = select.one(&plan.params);
    prepare(catalog, &plan.one).await?;
    plan.listing = Listing::of(catalog.dialect(), mapping, &relation);
    let doubt = check_rows(catalog, mapping, name, &relation).await?;
    plan.log_form = log_form(catalog, mapping, &relation, doubt.as_ref());
    plan.doubts.extend(doubt);
    if block.writes_table() || block.delete == DeleteMode::Row || block.expires_column.is_some() {
        plan.unsavable = unsavable(catalog, mapping).await?;
        let target = Target::of(mapping, &relation, select.columns);
        if block.writes_table() && target.columns.is_empty() {
            let text =
                format!("table '{name}' has no column that a write could set: all that are shown are of its key");
            return Err(StoreError::fault("write", text));
        }
        plan.target = Some(target.checked(block)?);
    }
    Ok(plan)
}

/// How a row of the server's log becomes a record, where each key has one row, and it is certain. SQLite has no such
/// log.
fn log_form(
    catalog: &Catalog<'_>,
    mapping: &Mapping,
    relation: &Relation,
    doubt: Option<&ColumnFault>,
) -> Option<LogForm> {
    let is_certain = catalog.dialect() == Dialect::Postgres && doubt.is_none() && !relation.has_no_indexes;
    is_certain.then(|| LogForm::of(mapping, relation)).flatten()
}

/// The mapping's table, whose columns are those that the mapping needs.
async fn relation(catalog: &Catalog<'_>, mapping: &Mapping, name: &str) -> Result<Relation, StoreError> {
    let block = &mapping.config;
    let Some(mut relation) = catalog.relation(name).await? else {
        return Err(StoreError::fault("table", catalog.no_table(name).await?));
    };
    if let Some(fault) = untold_fault(name, &relation) {
        return Err(StoreError::fault("table", fault));
    }
    check_table(mapping, name, &relation)?;
    check_keys(mapping, &relation)?;
    check_computed(mapping, &relation)?;
    if let Some(column) = block.overflow.as_deref().and_then(|column| relation.column(column)) {
        check_overflow(column, catalog.default_of(name, &column.name).await?.as_deref())?;
    }
    let ends = block.expires_column.as_deref().and_then(|column| relation.column(column));
    if catalog.dialect().has_strict_types() && ends.is_some_and(|column| !column.is_time()) {
        return Err(StoreError::fault("expires_column", "is no timestamp"));
    }
    if block.timestamps == Timestamps::Epoch {
        let times = relation.columns.iter_mut().filter(|column| column.holds == Holds::Times);
        times.for_each(|column| column.holds = Holds::Epochs);
    }
    catalog.zoned(relation, block).await
}

/// How the key's texts are bound. A table's rows say their own keys, so a type may have several spellings for a value.
fn params(mapping: &Mapping, relation: &Relation) -> Vec<Param> {
    let keys = mapping.columns(&mapping.config.key_columns);
    let columns = keys.iter().filter_map(|key| relation.column(key));
    let param = |((_, kind), column): ((&str, PlaceholderKind), &Column)| match kind {
        PlaceholderKind::Date if column.kind() == "date" && column.base.under_domain.is_none() => Param::Date,
        _ => column.param(),
    };
    mapping.pattern.placeholders().zip(columns).map(param).collect()
}

/// Has the engine look at the statement that loads a key: it knows for which types there is no equality.
async fn prepare(catalog: &Catalog<'_>, sql: &str) -> Result<(), StoreError> {
    match catalog.describe(sql).await {
        Err(StoreError::Refused(text) | StoreError::Schema(text)) => Err(StoreError::fault("key", text)),
        described => described.map(drop),
    }
}

/// Whether a key has one row, where it has to: the doubt, if that cannot be known.
async fn check_rows(
    catalog: &Catalog<'_>,
    mapping: &Mapping,
    name: &str,
    relation: &Relation,
) -> Result<Option<ColumnFault>, StoreError> {
    let block = &mapping.config;
    if relation.has_no_indexes && !block.writes_table() {
        let is_one = matches!(block.shape, Shape::Hash | Shape::String);
        let doubt = || {
            format!(
                "'{name}' is a view or a virtual table, and no index keeps its rows apart: a key that has several rows \
                 is an error when it is read"
            )
        };
        return Ok(is_one.then(|| ("table", doubt())));
    }
    check_unique(block, &mapping.columns(&block.key_columns), &catalog.unique_indexes(name).await?)
}

/// Why what the mapping defers could not be noted, and so never be saved.
async fn unsavable(catalog: &Catalog<'_>, mapping: &Mapping) -> Result<Vec<ColumnFault>, StoreError> {
    let block = &mapping.config;
    if !block.defers() {
        return Ok(Vec::new());
    }
    let key = if block.expires_column.is_some() { "expires_column" } else { "deferred" };
    Ok(catalog.journal_faults().await?.into_iter().map(|fault| (key, fault)).collect())
}

/// The SELECT of a mapping's records.
struct Select<'r> {
    dialect: Dialect,
    relation: &'r Relation,
    /// The key's columns, quoted.
    keys: Vec<String>,
    /// What is selected: the shown columns, the row's own key, and how long it has to live.
    columns: String,
}

impl<'r> Select<'r> {
    fn of(dialect: Dialect, mapping: &Mapping, relation: &'r Relation) -> Self {
        let block = &mapping.config;
        let names = mapping.columns(&block.key_columns);
        let keys: Vec<String> = names.iter().map(|key| quote(key)).collect();
        let show = |column: &Column| match block.overflow.as_deref() == Some(&column.name) {
            // Its members are fields: it is read as it is.
            true => column.quoted(),
            false => dialect.shown(column),
        };
        let shown = relation.columns.iter().filter(|column| shows(block, &names, &column.name)).map(show);
        let own = keys.iter().enumerate().map(|(i, key)| format!("{} AS {}", dialect.text(key), quote(&key_column(i))));
        let ends = block.expires_column.as_deref().and_then(|name| relation.column(name));
        let columns: Vec<String> = shown.chain(own).chain(ends.map(|column| dialect.left(column))).collect();
        Self { dialect, relation, keys, columns: columns.join(", ") }
    }

    fn from(&self) -> String {
        format!("SELECT {} FROM {}", self.columns, self.relation.name)
    }

    /// The rows of one key, whose texts are bound like that.
    fn one(&self, params: &[Param]) -> String {
        let ours = self.keys.iter().zip(params).enumerate();
        let ours = ours.map(|(i, (key, param))| {
            format!("{} = {}", self.dialect.compared(key, param), self.dialect.bound(i + 1, param))
        });
        let ours: Vec<String> = ours.collect();
        // A key without a placeholder is all rows.
        let chosen = if ours.is_empty() { String::new() } else { format!(" WHERE {}", ours.join(" AND ")) };
        self.dialect.readable(&format!("{}{chosen}", self.from()))
    }

    /// Every row.
    fn all(&self) -> String {
        let order = if self.keys.is_empty() { String::new() } else { format!(" ORDER BY {}", self.keys.join(", ")) };
        self.dialect.readable(&format!("{}{order}", self.from()))
    }
}

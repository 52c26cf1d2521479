//! The plan of a mapping that shows what a query selects, and of a list's statements for elements.

use super::Catalog;
use crate::config::Shape;
use crate::keys::PlaceholderKind;
use crate::mapping::{Kind, Mapping};
use crate::store::StoreError;
use crate::store::catalog::described::{Described, Param, Parameter};
use crate::store::catalog::requirements::{
    ColumnFault, list_parameters, must_select_key, query_faults, selects_key, unfit_kind,
};
use crate::store::dialect::Dialect;
use crate::store::listing::{Listing, source};
use crate::store::plan::{KeySource, ListStatement, ListStatements, Plan};
use crate::store::words::name_length;

/// # Errors
/// [`StoreError::Faults`] for what does not fit.
pub(super) async fn plan(catalog: &Catalog<'_>, mapping: &Mapping, query: &str) -> Result<Plan, StoreError> {
    let query = query.trim().trim_end_matches(';');
    let mut described = describe(catalog, "query", query).await?;
    bind_dates(mapping, &mut described.parameters);
    let mut faults = query_faults(mapping, &described.columns, described.parameters.len());
    let is_named = selects_key(mapping, &described.columns);
    if let Some(fault) = out_of_order(mapping, &described.parameters) {
        return Err(StoreError::Faults(vec![fault]));
    }
    if !is_named {
        faults.extend(spelling_faults(catalog.dialect(), mapping, &described.parameters));
    }
    faults.extend(unfit_parameters(mapping, &described.parameters));
    if !faults.is_empty() {
        return Err(StoreError::Faults(faults));
    }
    let mut plan = Plan::new(mapping, if is_named { KeySource::Named } else { KeySource::Bound });
    let unbound: Vec<ColumnFault> = unbound(&described.parameters);
    let columns = described.columns.clone();
    plan.params = described.params();
    if !unbound.is_empty() {
        match catalog.takes(query, &plan.params).await {
            Err(StoreError::Refused(_) | StoreError::Schema(_)) => return Err(StoreError::Faults(unbound)),
            taken => taken?,
        }
    }
    for (i, param) in plan.params.iter_mut().enumerate() {
        cast_in(catalog, query, i + 1, param).await?;
    }
    must_read(catalog, query).await?;
    plan.doubts.extend(has_no_order(mapping, query));
    let sql = catalog.dialect().readable(query);
    match mapping.kind {
        Kind::Definition => plan.all = sql,
        Kind::Cache => {
            plan.one = sql;
            plan.list = list_statements(catalog, mapping).await?;
            plan.listing = match mapping.pattern.is_one_key() {
                true => Some(Listing::of_one(catalog.dialect(), mapping, &format!("({query}\n)"), &columns)),
                false => listing(catalog, mapping).await?,
            };
        }
    }
    Ok(plan)
}

/// A date's placeholder has the one spelling that a date is bound by.
fn bind_dates(mapping: &Mapping, parameters: &mut [Parameter]) {
    let dates =
        mapping.pattern.placeholders().zip(parameters).filter(|((_, kind), parameter)| {
            *kind == PlaceholderKind::Date && parameter.kind.eq_ignore_ascii_case("date")
        });
    dates.for_each(|(_, parameter)| parameter.bound = Some(Param::Date));
}

/// Two parameters that stand in each other's place: what else is wrong with them follows from that.
fn out_of_order(mapping: &Mapping, parameters: &[Parameter]) -> Option<ColumnFault> {
    let placeholders: Vec<(&str, PlaceholderKind)> = mapping.pattern.placeholders().collect();
    let is_unfit = |at: usize, other: usize| unfit_kind(placeholders[at], "", &parameters[other].kind).is_some();
    let all = placeholders.len().min(parameters.len());
    let pairs = (0..all).flat_map(|first| (first + 1..all).map(move |second| (first, second)));
    let is_swapped = |(first, second): &(usize, usize)| {
        let (first, second) = (*first, *second);
        (is_unfit(first, first) || is_unfit(second, second)) && !is_unfit(first, second) && !is_unfit(second, first)
    };
    let (first, second) = pairs.filter(|_| placeholders.len() == parameters.len()).find(is_swapped)?;
    let named = |at: usize| format!("${} is {{{}}}", at + 1, placeholders[at].0);
    let kinds = [first, second].map(|at| parameters[at].kind.to_ascii_lowercase());
    let text = format!(
        "the parameters are the placeholders of the key in their order: {} and {}, but the query compares them with a \
         {} and a {}: write them the other way round",
        named(first),
        named(second),
        kinds[0],
        kinds[1],
    );
    Some(("query", text))
}

/// What no value of a placeholder could be, by the type that a parameter has.
fn unfit_parameters(mapping: &Mapping, parameters: &[Parameter]) -> Vec<ColumnFault> {
    let fault = |(i, (placeholder, parameter)): (usize, ((&str, PlaceholderKind), &Parameter))| {
        Some(("query", unfit_kind(placeholder, &format!("parameter ${}", i + 1), &parameter.kind)?))
    };
    mapping.pattern.placeholders().zip(parameters).enumerate().filter_map(fault).collect()
}

/// Refuses what does more than to read: it cannot stand where a table may, and SQLite would run it at each read.
///
/// # Errors
/// [`StoreError::Faults`], or the store's, when it does not answer.
async fn must_read(catalog: &Catalog<'_>, query: &str) -> Result<(), StoreError> {
    match catalog.describe(&format!("SELECT 1 FROM ({query}\n) AS hearthside_row")).await {
        Err(StoreError::Refused(text) | StoreError::Schema(text)) => {
            Err(StoreError::fault("query", format!("must be one SELECT that changes nothing: {text}")))
        }
        other => other.map(drop),
    }
}

/// What to write where a key's text is not taken for a parameter's type.
fn unbound(parameters: &[Parameter]) -> Vec<ColumnFault> {
    let unbound = parameters.iter().enumerate().filter(|(_, parameter)| parameter.bound.is_none());
    let advice = |(i, parameter): (usize, &Parameter)| {
        let (number, kind) = (i + 1, parameter.kind.to_ascii_lowercase());
        ("query", format!("parameter ${number} is of type {kind}, and is given a text: write ${number}::text::{kind}"))
    };
    unbound.filter(|(_, parameter)| !parameter.kind.is_empty()).map(advice).collect()
}

/// Notes how a parameter is bound whose text the query itself casts to a type: `$1::text::date`.
///
/// # Errors
/// The store's, when it does not answer.
async fn cast_in(catalog: &Catalog<'_>, query: &str, number: usize, param: &mut Param) -> Result<(), StoreError> {
    let Some((_, behind)) = query.split_once(&format!("${number}::text::")) else { return Ok(()) };
    let to = type_at(behind).to_owned();
    if !matches!(param, Param::Text) || to.is_empty() {
        return Ok(());
    }
    match catalog.takes(&format!("SELECT CAST($1::text AS {to})"), &[Param::Text]).await {
        Ok(()) => *param = Param::Cast { to, column: None },
        // It was no type, or not all of it.
        Err(StoreError::Refused(_) | StoreError::Schema(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The name of the type with which a text begins: `date`, `numeric(8, 2)`, `time(3) with time zone`, `my."Type"[]`.
fn type_at(text: &str) -> &str {
    let mut end = name_length(text);
    let mut take = |begin: &str, close: &str| {
        let rest = text[end..].trim_start();
        if rest.get(..begin.len()).is_some_and(|found| found.eq_ignore_ascii_case(begin)) {
            let closed = rest.find(close).map_or(rest.len(), |at| at + close.len());
            end = text.len() - rest.len() + closed.max(begin.len());
        }
    };
    take("(", ")");
    for words in ["precision", "varying", "with time zone", "without time zone"] {
        take(words, "");
    }
    take("(", ")");
    take("[", "]");
    &text[..end]
}

/// The doubt about a list whose elements come in no order of their own.
fn has_no_order(mapping: &Mapping, query: &str) -> Option<ColumnFault> {
    let words: Vec<String> = query.split_whitespace().map(str::to_ascii_lowercase).collect();
    let is_ordered = words.windows(2).any(|pair| pair[0].ends_with("order") && pair[1] == "by");
    let text = "the elements of the list may come in another order each time: the query has no ORDER BY";
    (mapping.config.shape == Shape::List && !is_ordered).then(|| ("query", text.to_owned()))
}

/// Where the keys are listed: in the first watched table that says them.
async fn listing(catalog: &Catalog<'_>, mapping: &Mapping) -> Result<Option<Listing>, StoreError> {
    let Some((name, _)) = source(mapping) else { return Ok(None) };
    let relation = catalog.relation(&name).await?;
    Ok(relation.and_then(|relation| Listing::of(catalog.dialect(), mapping, &relation)))
}

/// The faults of a query whose rows do not say their own key, and that takes one with several spellings: those could
/// not be kept apart.
fn spelling_faults(dialect: Dialect, mapping: &Mapping, parameters: &[Parameter]) -> Vec<ColumnFault> {
    match dialect {
        Dialect::Postgres => {
            let several = parameters.iter().enumerate().filter(|(_, parameter)| parameter.bound.is_none());
            several.map(|(i, parameter)| several_spellings(i + 1, &parameter.kind)).collect()
        }
        // SQLite would compare '007' to a number as 7.
        Dialect::Sqlite => {
            let one_spelling = mapping.pattern.placeholders().all(|(_, kind)| kind == PlaceholderKind::Int);
            let is_fault = mapping.kind == Kind::Cache && !one_spelling;
            is_fault.then(|| must_select_key(mapping)).into_iter().collect()
        }
    }
}

fn several_spellings(number: usize, kind: &str) -> ColumnFault {
    let advice =
        format!("has several spellings per value; select the placeholders as columns, or write ${number}::text");
    ("query", format!("parameter ${number} of type {kind} {advice}"))
}

/// `push` takes the key's placeholders and an element, `remove` LREM's count too.
async fn list_statements(catalog: &Catalog<'_>, mapping: &Mapping) -> Result<ListStatements, StoreError> {
    let (mut statements, mut faults) = (ListStatements::default(), Vec::new());
    for (key, sql, statement) in [
        ("push", &mapping.config.push, &mut statements.push),
        ("remove", &mapping.config.remove, &mut statements.remove),
    ] {
        let Some(sql) = sql else { continue };
        match list_statement(catalog, mapping, key, sql).await {
            Ok(made) => *statement = Some(made),
            Err(StoreError::Faults(more)) => faults.extend(more),
            Err(other) => return Err(other),
        }
    }
    if faults.is_empty() { Ok(statements) } else { Err(StoreError::Faults(faults)) }
}

async fn list_statement(
    catalog: &Catalog<'_>,
    mapping: &Mapping,
    key: &'static str,
    sql: &str,
) -> Result<ListStatement, StoreError> {
    let parameters = describe(catalog, key, sql).await?.parameters;
    let placeholders = mapping.pattern.placeholders().count();
    match list_fault(key, &parameters, placeholders) {
        Some(fault) => Err(StoreError::Faults(vec![fault])),
        None => Ok(ListStatement { sql: sql.to_owned(), takes_count: parameters.len() == placeholders + 2 }),
    }
}

/// What the engine says of the SQL at a key of the block.
async fn describe(catalog: &Catalog<'_>, key: &'static str, sql: &str) -> Result<Described, StoreError> {
    match catalog.describe(sql).await {
        Err(StoreError::Refused(text) | StoreError::Schema(text)) => Err(StoreError::fault(key, text)),
        other => other,
    }
}

/// What is wrong with the parameters of a list's statement for a key with so many placeholders.
fn list_fault(key: &'static str, parameters: &[Parameter], placeholders: usize) -> Option<ColumnFault> {
    let takes = parameters.len();
    let most = if key == "push" { placeholders + 1 } else { placeholders + 2 };
    if takes <= placeholders || takes > most {
        return Some((key, list_parameters(takes, placeholders)));
    }
    let wanted = [("TEXT", "the element", "text"), ("INT8", "the count", "bigint")];
    let given = parameters.iter().enumerate().skip(placeholders).zip(wanted);
    let mut wrong = given.filter(|((_, parameter), (kind, ..))| !parameter.kind.is_empty() && parameter.kind != *kind);
    wrong.next().map(|((at, _), (_, what, cast))| (key, format!("write {what} as ${}::{cast}", at + 1)))
}

#[cfg(test)]
mod tests {
    use super::type_at;

    #[test]
    fn the_name_of_a_type_ends_where_postgres_ends_it() {
        for (text, name) in [
            ("date AND b = $2", "date"),
            ("double precision)", "double precision"),
            ("numeric(8, 2) LIMIT 1", "numeric(8, 2)"),
            ("timestamp(3) with time zone", "timestamp(3) with time zone"),
            ("CHARACTER VARYING (9)", "CHARACTER VARYING (9)"),
            ("my.\"Own Type\"[] OR true", "my.\"Own Type\"[]"),
            (" + 1", ""),
        ] {
            assert_eq!(type_at(text), name);
        }
    }
}

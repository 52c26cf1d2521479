//! The short way of a statement that changed one row and left its key as it was: one query, which compares, makes the
//! notice and sends it. It runs with the writer's settings, so that it is taken only where they make no difference:
//! rows are compared as they are stored, and the types of the key's columns have one text. Every name is given with its
//! schema. Whatever else there is to tell is left to the long way. Pure.

use super::function::{Event, MOST_BYTES, quoted};
use super::interest::{Interest, TableInterests};
use super::means::Means;
use super::telling::SLOT;
use crate::store::catalog::relation::quote;

/// Types whose text depends on no setting: boolean, "char", name, bigint, smallint, integer, text, oid, cidr, macaddr,
/// inet, char(n), varchar, numeric, uuid.
/// Source: <https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat>
const PLAIN: &str = "{16,18,19,20,21,23,25,26,650,829,869,1042,1043,1700,2950}";

/// JSON needs at most so many bytes for one of a text: `\u0001`.
const ESCAPED: usize = 6;

/// A text that a key's column must be allowed to have, or the short way would be of no use: a UUID.
const SHORTEST: usize = 36;

/// The statement of the short way, which fails unless there is exactly one row. With notices it sends one, and sets
/// `rest` to whether the long way is to be gone. With the outbox it sets `news` to what is to be told, to nothing, or,
/// for the long way, to the empty text, and `slot` to where it belongs. `None` where the long way is always gone.
pub(super) fn single(table: &TableInterests, event: Event, means: Means) -> Option<String> {
    let keyed: Vec<&Interest> = table.interests.iter().filter(|interest| interest.key.is_some()).collect();
    let some_are_whole = keyed.len() < table.interests.len();
    if keyed.is_empty() || some_are_whole && !matches!(event, Event::Update) {
        return None;
    }
    let (side, rows) = match event {
        Event::Update => ("n", "new_rows AS n, old_rows AS o"),
        Event::Insert => ("n", "new_rows AS n"),
        Event::Delete => ("o", "old_rows AS o"),
    };
    let (long, nothing, into) = match means {
        Means::Notices => ("true", "false", "\n        INTO STRICT rest".to_owned()),
        Means::Outbox => ("''", "NULL", format!(",\n            {SLOT}\n        INTO STRICT news, slot")),
    };
    let mut ways = Vec::new();
    if matches!(event, Event::Update) {
        let wholes = table.interests.iter().filter(|interest| interest.key.is_none());
        ways.extend(wholes.map(|interest| format!("WHEN NOT {} THEN {long}", is_same(interest))));
        let mut same: Vec<String> = keyed.iter().map(|interest| is_same(interest)).collect();
        same.dedup();
        ways.push(format!("WHEN {} THEN {nothing}", same.join(" AND ")));
    }
    let told = match means {
        Means::Notices => format!("pg_catalog.pg_notify('{}', {}) IS NULL", means.channel(), news(&keyed, event, side)),
        Means::Outbox => news(&keyed, event, side),
    };
    ways.push(format!("WHEN {} THEN\n                {told}", is_plain(&keyed, event, side)?));
    Some(format!(
        "        SELECT CASE
            {}
            ELSE {long} END{into} FROM {rows};
",
        ways.join("\n            ")
    ))
}

/// Whether what the mapping shows of the row, and its key, are stored as they were.
fn is_same(interest: &Interest) -> String {
    let of_key = interest.key.iter().flat_map(|key| &key.columns);
    let columns = interest.counted.as_ref().map(|counted| counted.iter().chain(of_key).cloned().collect());
    images(columns)
}

/// Compares these columns, or all of them, byte by byte. With a cast the operator gets whole rows.
fn images(columns: Option<Vec<String>>) -> String {
    let row = |side: &str| match &columns {
        None => format!("{side}.*"),
        Some(columns) => {
            let parts: Vec<String> = columns.iter().map(|column| format!("{side}.{}", quote(column))).collect();
            format!("ROW({})::pg_catalog.record", parts.join(", "))
        }
    };
    format!("({} OPERATOR(pg_catalog.*=) {})", row("o"), row("n"))
}

/// Whether the keys are as they were, and their texts short, and the same in every session.
fn is_plain(keyed: &[&Interest], event: Event, side: &str) -> Option<String> {
    let keys = || keyed.iter().filter_map(|interest| interest.key.as_ref());
    let fixed: usize = keys().flat_map(|key| &key.literals).map(|literal| ESCAPED * literal.len() + 3).sum();
    let longest =
        MOST_BYTES.checked_sub(fixed)? / (ESCAPED * keys().map(|key| key.columns.len().max(1)).sum::<usize>());
    if longest < SHORTEST {
        return None;
    }
    let mut columns: Vec<String> = keys().flat_map(|key| key.columns.iter().cloned()).collect();
    columns.sort();
    columns.dedup();
    let mut all = vec!["pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8'".to_owned()];
    if matches!(event, Event::Update) && !columns.is_empty() {
        all.push(images(Some(columns.clone())));
    }
    for column in columns.iter().map(|column| format!("{side}.{}", quote(column))) {
        all.push(format!(
            "pg_catalog.pg_typeof({column})::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ('{PLAIN}'::pg_catalog.oid[])"
        ));
        all.push(format!("pg_catalog.octet_length({column}::pg_catalog.text) OPERATOR(pg_catalog.<=) {longest}"));
    }
    Some(all.join("\n                AND "))
}

/// Tells the keys of the mappings for which the row is not what it was.
fn news(keyed: &[&Interest], event: Event, side: &str) -> String {
    let texts: Vec<String> = keyed.iter().map(|interest| told(interest, side)).collect();
    let keys = match (&texts[..], event) {
        ([one], _) => one.clone(),
        (_, Event::Update) => {
            let told = keyed
                .iter()
                .zip(&texts)
                .map(|(interest, text)| format!("CASE WHEN {} THEN NULL ELSE {text} END", is_same(interest)));
            format!("pg_catalog.concat_ws(',', {})", told.collect::<Vec<_>>().join(", "))
        }
        _ => texts.join(&join("','")),
    };
    let origin = "pg_catalog.current_setting('hearthside.origin', true)";
    let from = ["'],\"from\":'", &format!("pg_catalog.to_json({origin})::pg_catalog.text"), "'}'"].join(&join(""));
    let ending = format!(
        "CASE WHEN {origin} OPERATOR(pg_catalog.<>) '' AND pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) 1 \
         THEN {from} ELSE ']}}' END"
    );
    ["'{\"keys\":['", &keys, &ending].join(&join(""))
}

/// A key, as JSON.
fn told(interest: &Interest, side: &str) -> String {
    let Some(key) = &interest.key else { return String::new() };
    let mut parts = Vec::new();
    for (i, literal) in key.literals.iter().enumerate() {
        if i == 0 || !literal.is_empty() {
            parts.push(format!("{}::pg_catalog.text", quoted(literal)));
        }
        parts.extend(key.columns.get(i).map(|column| format!("{side}.{}::pg_catalog.text", quote(column))));
    }
    format!("pg_catalog.to_json({})::pg_catalog.text", parts.join(&join("")))
}

/// Between two texts that are joined, or with this one between them.
fn join(between: &str) -> String {
    let operator = " OPERATOR(pg_catalog.||) ";
    if between.is_empty() { operator.to_owned() } else { format!("{operator}{between}{operator}") }
}

#[cfg(test)]
mod tests {
    use crate::store::triggers::function::Event;
    use crate::store::triggers::interest::{Interest, KeyParts, TableInterests};
    use crate::store::triggers::means::Means;

    fn single(table: &TableInterests, event: Event) -> Option<String> {
        super::single(table, event, Means::Notices)
    }

    fn table(literal: &str, keyed: bool) -> TableInterests {
        let key = KeyParts { literals: vec![literal.into(), String::new()], columns: vec!["x".into()] };
        let interest = Interest {
            pattern: "p".into(),
            key: keyed.then_some(key),
            counted: Some(vec!["v".into()]),
            is_shown: true,
        };
        TableInterests { table: "t".into(), interests: vec![interest] }
    }

    #[test]
    fn what_is_always_told_whole_or_may_be_too_long_goes_the_long_way() {
        assert!(single(&table("a:", true), Event::Insert).is_some());
        assert!(single(&table("a:", false), Event::Insert).is_none());
        assert!(single(&table(&"a".repeat(2000), true), Event::Insert).is_none());
    }

    #[test]
    fn an_update_compares_what_is_shown_and_the_key() {
        let sql = single(&table("a:", true), Event::Update).expect("a short way");
        let row = |side| format!("ROW({side}.\"v\", {side}.\"x\")::pg_catalog.record");
        let same = format!("WHEN ({} OPERATOR(pg_catalog.*=) {}) THEN false", row("o"), row("n"));
        assert!(sql.contains(&same), "{sql}");
    }
}

//! Every command and how it is handled: `hearthside commands`, and the table of docs/COMPATIBILITY.md.

use std::fmt::Write;

use crate::command::{Spec, all};
use crate::journal::{Clearing, Refused};
use crate::record::{Verb, verb_of};
use crate::route::handling;

/// A Markdown table with a row for every command, in the order of names.
#[must_use]
pub fn commands() -> String {
    let mut specs: Vec<&Spec> = all().collect();
    specs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut table = String::from("| command | since | pass-through keys, or none | owned keys |\n|---|---|---|---|\n");
    for spec in specs {
        let name = spec.name.replace('|', " ").to_ascii_uppercase();
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {name} | {} | {} | {} |", spec.since, handling(spec), on_owned(spec));
    }
    table
}

/// What the store refused, a line each: when, mapping, key, field, value and reason. Before it, how many entries are
/// missing in the journal.
#[must_use]
pub fn refused(list: &[Refused], missing: u64) -> String {
    let mut listed = match missing {
        0 => String::new(),
        _ => format!("{missing} acknowledged deferred writes, at most, are missing: the journal was damaged\n"),
    };
    for Refused { at, mapping, key, field, value, reason } in list {
        let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
        let value = value.as_ref().map_or_else(|| "(removed)".to_owned(), |value| text(value));
        // Writing to a String cannot fail.
        let _ = writeln!(listed, "{at} {mapping} {} {} {value}: {reason}", text(key), text(field));
    }
    if listed.is_empty() { "nothing was refused\n".to_owned() } else { listed }
}

/// The outcome of values that were put aside.
#[must_use]
pub fn cleared(fields: u64, clearing: Clearing) -> String {
    match (fields, clearing) {
        (0, _) => "nothing was put aside\n".to_owned(),
        (_, Clearing::Retry) => format!("{fields} fields wait again; the next start of the sidecar saves them\n"),
        (_, Clearing::Remove) => format!("{fields} fields were removed\n"),
    }
}

/// How a command is handled when one of its keys is owned.
fn on_owned(spec: &Spec) -> &'static str {
    match (spec.name.as_str(), verb_of(spec)) {
        _ if spec.keys.is_empty() => "–",
        (_, Some(Verb::Read(_) | Verb::Inspect(_))) => "answered",
        (_, Some(Verb::Write(_))) => "as the mapping's `write` says; error on a definition",
        (_, Some(Verb::Expire(_))) => "answered on cached keys",
        ("del" | "unlink", _) => "as the mapping's `delete` says: forgets, or deletes the rows; error on a definition",
        ("hearthside|explain", _) => "says what is known of it",
        ("hearthside|invalidate", _) => "forgets cached keys, loads definitions again",
        ("watch", _) => "watched, also among pass-through keys",
        ("exists" | "touch" | "mget", _) => "answered, also among pass-through keys",
        _ => "error",
    }
}

//! Which keys of the upstream might be worth a mapping: forms of keys that are read most.

use std::collections::BTreeMap;

use serde::Serialize;

use super::subject::Subject;
use crate::command::all;

/// So many are told.
const MOST: usize = 20;

/// Forms that are looked at.
const LOOKED_AT: usize = 2048;

/// A part that differs among more forms than this, which are the same otherwise, varies too.
const VARIES: usize = 5;

/// Keys of one form.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct CandidateFacts {
    pub pattern: String,
    pub count: u64,
    pub reads: u64,
    pub commands: Vec<String>,
    #[serde(rename = "type")]
    pub shape: Option<&'static str>,
}

/// The commands that keys of one form were named in, with how often.
type Forms = BTreeMap<String, BTreeMap<String, u64>>;

/// Forms of which one part varies become one.
fn merged(mut forms: Forms) -> Forms {
    let longest = forms.keys().map(|form| form.split(':').count()).max().unwrap_or(0);
    for at in (1..longest).rev() {
        let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for form in forms.keys() {
            let mut parts: Vec<&str> = form.split(':').collect();
            if at < parts.len() {
                parts[at] = "{}";
                alike.entry(parts.join(":")).or_default().push(form.clone());
            }
        }
        for (whole, members) in alike.into_iter().filter(|(_, members)| members.len() > VARIES) {
            for member in members {
                let commands = forms.remove(&member).unwrap_or_default();
                let sum = forms.entry(whole.clone()).or_default();
                commands.into_iter().for_each(|(command, count)| *sum.entry(command).or_default() += count);
            }
        }
    }
    forms
}

/// The type of the keys that a command is for, where it is one that mappings have.
fn shape_of(command: &str) -> Option<&'static str> {
    let spec = all().find(|spec| spec.name == command)?;
    ["hash", "list", "set", "string"].into_iter().find(|shape| spec.categories.contains(shape))
}

/// The form as a key pattern, whose holes have names.
fn pattern(form: &str) -> String {
    let mut pieces = form.split("{}");
    let mut pattern = pieces.next().unwrap_or_default().to_owned();
    for (at, piece) in pieces.enumerate() {
        pattern.push_str(&if at == 0 { "{id}".to_owned() } else { format!("{{id{}}}", at + 1) });
        pattern.push_str(piece);
    }
    pattern
}

impl CandidateFacts {
    fn of(form: &str, commands: &BTreeMap<String, u64>) -> Self {
        let is_read = |command: &str| all().any(|spec| spec.name == command && spec.flags.readonly);
        let mut order: Vec<(&String, u64)> = commands.iter().map(|(command, count)| (command, *count)).collect();
        order.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self {
            pattern: pattern(form),
            count: order.iter().map(|(_, count)| count).sum(),
            reads: order.iter().filter(|(command, _)| is_read(command)).map(|(_, count)| count).sum(),
            shape: order.iter().find_map(|(command, _)| shape_of(command)),
            commands: order.iter().take(5).map(|(command, _)| command.to_ascii_uppercase()).collect(),
        }
    }
}

impl Subject {
    /// Forms with a hole that pass through most, of the last minute.
    #[must_use]
    pub fn candidates(&self) -> Vec<CandidateFacts> {
        let mut forms = Forms::new();
        for (text, count) in self.metrics.cache.top.passed(LOOKED_AT) {
            if let Some((command, form)) = text.split_once(' ') {
                *forms.entry(form.to_owned()).or_default().entry(command.to_owned()).or_default() += count;
            }
        }
        let forms = merged(forms);
        let with_hole = forms.iter().filter(|(form, _)| form.contains("{}"));
        let mut all: Vec<_> = with_hole.map(|(form, commands)| CandidateFacts::of(form, commands)).collect();
        all.sort_by_key(|facts| std::cmp::Reverse(facts.count));
        all.truncate(MOST);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Forms, merged, pattern, shape_of};

    #[test]
    fn names_that_vary_become_a_hole() {
        let form = |form: String| (form, std::iter::once(("get".to_owned(), 2)).collect());
        let mut forms: Forms = (0..10).map(|i| form(format!("user:{}:name", char::from(b'a' + i)))).collect();
        forms.extend([form("flags:a".to_owned()), form("flags:b".to_owned())]);
        let merged = merged(forms);
        assert_eq!(merged.keys().collect::<Vec<_>>(), ["flags:a", "flags:b", "user:{}:name"]);
        assert_eq!(merged["user:{}:name"]["get"], 20);
        assert_eq!(pattern("a:{}:b:{}"), "a:{id}:b:{id2}");
        assert_eq!([shape_of("hgetall"), shape_of("get"), shape_of("zadd")], [Some("hash"), Some("string"), None]);
    }
}

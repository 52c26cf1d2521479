//! Which keys of the upstream might be worth a mapping: forms of keys that are read most.

use std::collections::BTreeMap;

use serde::Serialize;

use super::subject::Subject;
use crate::command::all;

/// So many are told.
const MOST: usize = 20;

/// Forms that are looked at.
const LOOKED_AT: usize = 2048;

/// A form without a hole, which is one key, is told if it was named so often.
const OFTEN: u64 = 10;

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

/// A part of a form whose hole says nothing of what it held.
fn plain(part: &str) -> String {
    ["{int}", "{uuid}", "{date}"].iter().fold(part.to_owned(), |part, hole| part.replace(hole, "{}"))
}

/// Forms that differ only in what their holes held become one: what all of them held is said.
fn unified(forms: Forms) -> Forms {
    let mut alike: BTreeMap<String, (Vec<String>, BTreeMap<String, u64>)> = BTreeMap::new();
    for (form, commands) in forms {
        let parts: Vec<String> = form.split(':').map(str::to_owned).collect();
        let (known, sum) = alike.entry(plain(&form)).or_insert_with(|| (parts.clone(), BTreeMap::new()));
        for (known, part) in known.iter_mut().zip(&parts).filter(|(known, part)| *known != *part) {
            *known = plain(part);
        }
        commands.into_iter().for_each(|(command, count)| *sum.entry(command).or_default() += count);
    }
    alike.into_values().map(|(parts, commands)| (parts.join(":"), commands)).collect()
}

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

/// The form as a key pattern, whose holes have names, and say what they take where that is known.
fn pattern(form: &str) -> String {
    let mut pieces = form.split('{');
    let mut pattern = pieces.next().unwrap_or_default().to_owned();
    for (at, piece) in pieces.enumerate() {
        let (kind, rest) = piece.split_once('}').unwrap_or(("", piece));
        let number = if at == 0 { String::new() } else { (at + 1).to_string() };
        let kind = if kind.is_empty() { String::new() } else { format!(":{kind}") };
        pattern.push_str(&format!("{{id{number}{kind}}}{rest}"));
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
    /// Forms that pass through most, of the last minute.
    #[must_use]
    pub fn candidates(&self) -> Vec<CandidateFacts> {
        let mut forms = Forms::new();
        for (text, count) in self.metrics.cache.top.passed(LOOKED_AT) {
            if let Some((command, form)) = text.split_once(' ') {
                *forms.entry(form.to_owned()).or_default().entry(command.to_owned()).or_default() += count;
            }
        }
        let forms = merged(unified(forms));
        let is_told = |facts: &CandidateFacts| facts.pattern.contains('{') || facts.count >= OFTEN;
        let all = forms.iter().map(|(form, commands)| CandidateFacts::of(form, commands));
        let mut all: Vec<_> = all.filter(is_told).collect();
        all.sort_by_key(|facts| std::cmp::Reverse(facts.count));
        all.truncate(MOST);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Forms, merged, pattern, shape_of, unified};

    #[test]
    fn what_all_keys_of_a_form_held_is_said() {
        let form = |form: &str| (form.to_owned(), std::iter::once(("get".to_owned(), 2)).collect());
        let forms: Forms = ["a:{int}:b", "a:{uuid}:b", "c:{date}:{int}", "c:{date}:{}", "d:{uuid}"].map(form).into();
        let unified = unified(forms);
        assert_eq!(unified.keys().collect::<Vec<_>>(), ["a:{}:b", "c:{date}:{}", "d:{uuid}"]);
        assert_eq!(unified["a:{}:b"]["get"], 4);
    }

    #[test]
    fn names_that_vary_become_a_hole() {
        let form = |form: String| (form, std::iter::once(("get".to_owned(), 2)).collect());
        let mut forms: Forms = (0..10).map(|i| form(format!("user:{}:name", char::from(b'a' + i)))).collect();
        forms.extend([form("flags:a".to_owned()), form("flags:b".to_owned())]);
        let merged = merged(forms);
        assert_eq!(merged.keys().collect::<Vec<_>>(), ["flags:a", "flags:b", "user:{}:name"]);
        assert_eq!(merged["user:{}:name"]["get"], 20);
        assert_eq!(pattern("a:{}:b:{}"), "a:{id}:b:{id2}");
        assert_eq!(pattern("a-{int}:{uuid}"), "a-{id:int}:{id2:uuid}");
        assert_eq!([shape_of("hgetall"), shape_of("get"), shape_of("zadd")], [Some("hash"), Some("string"), None]);
    }
}

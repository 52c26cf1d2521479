//! The faults of a configuration: all of them are reported at once, each with the place where it was set.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::nearest::did_you_mean;
use super::serde_messages::humane;

/// How many characters of a text are told, of its beginning and of its end: a value that stands in it may be very long,
/// and what to write instead stands behind it.
const TOLD: usize = 500;

/// A text that a terminal shows as it is, whatever the configuration holds; on several lines where that is meant.
fn printable(text: &str, keeps_lines: bool) -> String {
    let count = text.chars().count();
    let kept = text.chars().enumerate().filter(|(at, _)| *at < TOLD || at + TOLD >= count);
    let mut shown = String::new();
    for (at, c) in kept {
        if at > TOLD && at + TOLD == count {
            shown.push_str(" ... ");
        }
        match c {
            '\n' if keeps_lines => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// One fault: which setting, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A path such as `caches[0].ttl`.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Every fault found so far, and where settings were written.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    file: String,
    /// Path to where it was set: a line of the file, or an environment variable.
    places: HashMap<String, String>,
    list: Vec<Fault>,
    doubts: Vec<Fault>,
}

impl Faults {
    /// The name of the file that was read.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// No faults yet in `file`, whose text gives the line numbers.
    #[must_use]
    pub fn new(file: &str, text: &str) -> Self {
        let mut faults = Self { file: file.to_owned(), ..Self::default() };
        if let Ok(table) = DeTable::parse(text) {
            faults.note_lines(text, "", table.get_ref());
        }
        faults
    }

    fn note_lines(&mut self, text: &str, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path =
                if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            self.note_line(text, &path, key.span().start);
            match value.get_ref() {
                DeValue::Table(inner) => self.note_lines(text, &path, inner),
                DeValue::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        let path = format!("{path}[{i}]");
                        self.note_line(text, &path, item.span().start);
                        if let DeValue::Table(inner) = item.get_ref() {
                            self.note_lines(text, &path, inner);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn note_line(&mut self, text: &str, path: &str, offset: usize) {
        let line = text[..offset.min(text.len())].matches('\n').count() + 1;
        self.places.insert(path.to_owned(), format!("{}:{line}", self.file));
    }

    /// Remembers that the environment set `path`.
    pub fn note_variable(&mut self, path: &str, variable: &str) {
        self.places.insert(path.to_owned(), variable.to_owned());
    }

    /// Adds a fault.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let fault = Fault { path: path.into(), message: message.into() };
        if !self.list.contains(&fault) {
            self.list.push(fault);
        }
    }

    /// Adds a warning about what works and is perhaps not what was meant.
    pub fn doubt(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.doubts.push(Fault { path: path.into(), message: message.into() });
    }

    /// True of a setting that the file or a variable has.
    #[must_use]
    pub fn is_written(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Each fault.
    #[must_use]
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// Every doubt, with its place.
    pub fn doubts(&self) -> impl Iterator<Item = String> {
        self.doubts.iter().map(|doubt| self.placed(doubt))
    }

    /// True when something is wrong with a setting of this section.
    #[must_use]
    pub fn concern(&self, section: &str) -> bool {
        self.list.iter().any(|fault| fault.path.split('.').next() == Some(section))
    }

    /// True when something is wrong in one of the elements of this list.
    #[must_use]
    pub fn concern_elements_of(&self, path: &str) -> bool {
        self.list.iter().any(|fault| fault.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('[')))
    }

    /// True while nothing is wrong.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Reads a `T` out of `value`, whose path is `base`; what is wrong or unknown is noted, taken out and passed over.
    /// `None` when it cannot be read even so. The keys of `example` are those that there are.
    pub(super) fn read<T>(&mut self, mut value: Value, base: &str, example: &T) -> Option<T>
    where
        T: DeserializeOwned + Serialize,
    {
        let mut taken: Vec<String> = Vec::new();
        loop {
            let mut unknown = Vec::new();
            let mut track = serde_path_to_error::Track::new();
            let deserializer = serde_path_to_error::Deserializer::new(value.clone(), &mut track);
            let result = serde_ignored::deserialize(deserializer, |path| unknown.push(path.to_string()));
            match result {
                Ok(read) => {
                    let example = serde_json::to_value(example).unwrap_or_default();
                    for path in unknown {
                        self.add(join(base, &indexed(&path)), unknown_key(&path, &example));
                    }
                    return Some(read);
                }
                Err(error) => {
                    let (path, told) = (track.path().to_string(), error.to_string());
                    // A faulty value that this loop has taken out is no missing field.
                    let missing = told.strip_prefix("missing field `").map(|rest| rest.trim_end_matches('`'));
                    if !missing.is_some_and(|field| taken.contains(&join(&path, field))) {
                        self.add(join(base, &path), humane(&told));
                    }
                    if !take_out(&mut value, &path) {
                        return None;
                    }
                    taken.push(path);
                }
            }
        }
    }

    fn placed(&self, fault: &Fault) -> String {
        let place = self.place(&fault.path).unwrap_or(&self.file);
        // What is wrong with the file as a whole is shown as it stands there.
        let message = printable(&fault.message, fault.path == "syntax");
        format!("{place}: {}: {message}", printable(&fault.path, false))
    }

    fn place(&self, path: &str) -> Option<&str> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.list.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", self.placed(fault))?;
        }
        Ok(())
    }
}

fn join(base: &str, path: &str) -> String {
    match (base, path) {
        ("" | ".", path) => path.to_owned(),
        (base, "" | ".") => base.to_owned(),
        (base, path) => format!("{base}.{path}"),
    }
}

/// What is at a key; the items of a list have the keys of the first.
fn enter<'v>(at: &'v Value, step: &str) -> Option<&'v Value> {
    match at {
        Value::Array(items) => items.first(),
        other => other.get(step),
    }
}

/// `watch.0.table` as other paths have it: `watch[0].table`.
fn indexed(path: &str) -> String {
    let is_index = |step: &str| step.parse::<usize>().is_ok();
    let step = |step: &str| if is_index(step) { format!("[{step}]") } else { format!(".{step}") };
    path.split('.').map(step).collect::<String>().trim_start_matches('.').to_owned()
}

/// The message about the last key of a path that the example does not have.
fn unknown_key(path: &str, example: &Value) -> String {
    let mut steps: Vec<&str> = path.split('.').collect();
    let last = steps.pop().unwrap_or_default();
    let beside = steps.into_iter().try_fold(example, enter).and_then(Value::as_object);
    let hint = beside.map(|known| did_you_mean(last, known.keys().map(String::as_str)));
    format!("unknown key{}", hint.unwrap_or_default())
}

/// Removes the value at a path of object keys and array indexes; false for the root.
fn take_out(value: &mut Value, path: &str) -> bool {
    let steps: Vec<&str> = path.split(['.', '[']).map(|s| s.trim_end_matches(']')).filter(|s| !s.is_empty()).collect();
    let Some((last, parents)) = steps.split_last() else { return false };
    let mut at = value;
    for step in parents {
        let next = match at {
            Value::Object(map) => map.get_mut(*step),
            Value::Array(items) => step.parse().ok().and_then(|i: usize| items.get_mut(i)),
            _ => None,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    match at {
        Value::Object(map) => map.remove(*last).is_some(),
        Value::Array(items) => last.parse().ok().filter(|i| *i < items.len()).map(|i: usize| items.remove(i)).is_some(),
        _ => false,
    }
}

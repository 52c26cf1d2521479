//! What the schema watch compares: of every table that a mapping names a fingerprint of its schema, and one of its
//! storage. Knows no engine.

use std::collections::BTreeSet;

use super::{Engine, Store, StoreError};
use crate::mapping::Mapping;

/// What an engine's catalog says of the tables of one mapping; two that are equal were taken of the same schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Which tables they are, their columns, indexes, triggers, partitions and policies.
    pub(super) schema: String,
    /// Where their rows are: another place after a rewrite or TRUNCATE. In Postgres also when the catalog last changed:
    /// at another time after something that was changed back.
    pub(super) storage: String,
}

/// How two fingerprints differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    None,
    /// The rows may be others, and nothing else.
    Storage,
    /// Statements may have to be made again.
    Schema,
}

impl Fingerprint {
    /// How a later one differs.
    #[must_use]
    pub fn compare(&self, now: &Self) -> Difference {
        match () {
            () if self.schema != now.schema => Difference::Schema,
            () if self.storage != now.storage => Difference::Storage,
            () => Difference::None,
        }
    }
}

/// Where deferred writes are noted.
const NOTES: [&str; 2] = ["hearthside.flushed", "hearthside.journals"];

/// The names by which a mapping's tables can be found: those of its block, every word of its SQL that may be one, and
/// the tables of notes where it defers writes.
pub(super) fn names(mapping: &Mapping) -> BTreeSet<String> {
    let block = &mapping.config;
    let watched = mapping.watched().into_iter().map(|(table, _)| table);
    let sql = [&block.query, &block.push, &block.remove].into_iter().flatten();
    let notes = NOTES.iter().filter(|_| block.defers()).map(|&name| name.to_owned());
    watched.chain(sql.flat_map(|sql| names_in(sql))).chain(notes).collect()
}

/// Words of a statement that may name a table, with their schema where they have one. Some will be columns, functions
/// or keywords: those are no tables, or do no harm.
pub(super) fn names_in(sql: &str) -> Vec<String> {
    let (mut names, mut rest) = (Vec::new(), sql);
    while !rest.is_empty() {
        let (name, behind) = rest.split_at(name_length(rest));
        let is_escaping = name.eq_ignore_ascii_case("e");
        names.extend(Some(name.to_owned()).filter(|name| is_name(name)));
        rest = &behind[passed_over(behind, is_escaping)..];
    }
    names
}

/// The length of the name with which a text begins.
pub(super) fn name_length(text: &str) -> usize {
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted ^= c == '"';
        let is_part = is_quoted || c.is_alphanumeric() || "_.\"".contains(c);
        !is_part
    });
    end.unwrap_or(text.len())
}

/// The length of what a text begins with that is no name: a comment, a string, or one character. `is_escaping`: in the
/// string a backslash makes the next character one of its own.
fn passed_over(text: &str, is_escaping: bool) -> usize {
    let up_to = |end: &str, begun: usize| text[begun..].find(end).map_or(text.len(), |at| begun + at + end.len());
    match text.chars().next() {
        Some('-') if text.starts_with("--") => up_to("\n", 2),
        Some('/') if text.starts_with("/*") => up_to("*/", 2),
        Some('\'') if is_escaping => escaped_length(text),
        Some('\'') => up_to("'", 1),
        Some('$') => dollar_tag(text).map_or(1, |tag| up_to(tag, tag.len())),
        first => first.map_or(0, char::len_utf8),
    }
}

/// The length of a string in which a backslash may stand before a quote: `E'it\'s'`.
fn escaped_length(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '\'' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The `$tag$` with which a text begins; `$1` is a parameter.
fn dollar_tag(text: &str) -> Option<&str> {
    let tag = text[1..].split_once('$')?.0;
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &text[..tag.len() + 2])
}

/// `table` or `schema.table`; never a number.
fn is_name(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() <= 2 && parts.iter().all(|part| part.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"'))
}

impl Store {
    /// The fingerprints of the tables of each of these mappings. No table's lock is waited for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fingerprints(&self, mappings: &[&Mapping]) -> Result<Vec<Fingerprint>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.fingerprints(mappings).await,
            Engine::Sqlite(store) => Ok(vec![store.fingerprint().await?; mappings.len()]),
            Engine::Away(away) => Err(away.error()),
        }
    }

    /// From now on no statement that was prepared before is used: connections of before are closed when they are free.
    pub(super) fn retire_connections(&self) {
        match &self.engine {
            Engine::Postgres(store) => store.retire_connections(),
            Engine::Sqlite(store) => store.retire_connections(),
            Engine::Away(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Fingerprint, names_in};

    #[test]
    fn every_table_of_a_statement_is_among_its_names() {
        let names = names_in(
            "WITH x AS (SELECT * FROM game.items i JOIN \"My Table\" USING (id)) \
             SELECT 'no.thing', 1.5 FROM x, s.\"T\" WHERE a = $1",
        );
        for table in ["game.items", "\"My Table\"", "s.\"T\"", "x"] {
            assert!(names.iter().any(|name| name == table), "{table}: {names:?}");
        }
        assert!(names.iter().all(|name| !name.contains("thing") && !name.starts_with('1')), "{names:?}");
    }

    #[test]
    fn comments_and_strings_hide_no_table() {
        for before in
            ["-- the player's row\n", "/* it's */", "SELECT E'it\\'s', 'it''s', $1, $$it's$$, $q$it's$$$q$, \"it's\" "]
        {
            let names = names_in(&format!("{before}FROM players"));
            assert!(names.contains(&"players".to_owned()), "{before}: {names:?}");
            assert!(!names.iter().any(|name| name == "s"), "{before}: {names:?}");
        }
        assert_eq!(names_in("it's -- no end"), ["it"]);
    }

    #[test]
    fn a_rewrite_is_no_change_of_the_schema() {
        let print = |schema: &str, storage: &str| Fingerprint { schema: schema.into(), storage: storage.into() };
        assert_eq!(print("a", "1").compare(&print("a", "1")), Difference::None);
        assert_eq!(print("a", "1").compare(&print("a", "2")), Difference::Storage);
        assert_eq!(print("a", "1").compare(&print("b", "2")), Difference::Schema);
    }
}

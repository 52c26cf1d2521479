//! What one mapping is to be told of the rows of one table, made of what it wants to be told
//! (`store/triggers/interest`) and of how the rows are sent. The keys have the texts that triggers would give them.
//! Pure.

use std::sync::Arc;

use bytes::Bytes;

use super::pgoutput::{Relation, Tuple, Value};
use crate::store::triggers::{Interest, KeyParts};

/// How the text of a value becomes its text in a key, which is what a cast to text makes of it.
/// Source: <https://www.postgresql.org/docs/current/catalog-pg-cast.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Same,
    /// `t` is `true`.
    Boolean,
    /// Blanks at the end do not count.
    Padded,
    /// A network's width is always said.
    Address,
    /// By a function that is not known here.
    Unknown,
}

impl Spelling {
    fn of(self, text: &[u8]) -> Option<Bytes> {
        Some(match (self, text) {
            (Self::Unknown, _) => return None,
            (Self::Boolean, b"t") => Bytes::from_static(b"true"),
            (Self::Boolean, b"f") => Bytes::from_static(b"false"),
            (Self::Padded, _) => {
                let length = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
                Bytes::copy_from_slice(&text[..length])
            }
            (Self::Address, _) if !text.contains(&b'/') => {
                let width: &[u8] = if text.contains(&b':') { b"/128" } else { b"/32" };
                Bytes::from([text, width].concat())
            }
            _ => Bytes::copy_from_slice(text),
        })
    }
}

/// One mapping's part in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Concern {
    pub(super) pattern: Arc<str>,
    /// The table, as the mapping writes it, if the mapping shows its rows and may see all of them.
    pub(super) shows: Option<Arc<str>>,
    /// None: any change concerns the whole mapping.
    key: Option<Key>,
    /// The columns that a change must touch to be told; none: all of them.
    counted: Option<Vec<usize>>,
}

/// How a key is made of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    /// One more than there are columns.
    literals: Vec<String>,
    columns: Vec<(usize, Spelling)>,
    /// Whether an old row that differs in it is always sent.
    is_identity: bool,
}

/// What is told of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Keys(Vec<ToldKey>),
    Whole,
}

/// A key that a row had or has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ToldKey {
    pub(super) key: Bytes,
    /// Whether the row has it now.
    pub(super) has_row: bool,
}

impl ToldKey {
    const fn came(key: Bytes) -> Self {
        Self { key, has_row: true }
    }

    const fn went(key: Bytes) -> Self {
        Self { key, has_row: false }
    }
}

/// A row that has changed.
pub(super) enum Row<'r, 'm> {
    Come(&'r Tuple<'m>),
    /// Of one that is gone only the replica identity is there.
    Gone(&'r Tuple<'m>),
    Changed {
        old: Option<&'r Tuple<'m>>,
        new: &'r Tuple<'m>,
    },
}

impl Concern {
    /// `spellings` are those of the relation's columns. What cannot be told key by key is told as a whole.
    pub(super) fn of(interest: &Interest, relation: &Relation, spellings: &[Spelling]) -> Self {
        let key = interest.key.as_ref().and_then(|parts| Key::of(parts, relation, spellings));
        // An old row can be compared only where it is sent whole.
        let counted = interest.counted.as_ref().filter(|_| relation.is_full);
        let counted = counted.and_then(|names| names.iter().map(|name| place(relation, name)).collect());
        Self { pattern: Arc::from(interest.pattern.as_str()), shows: None, key, counted }
    }

    /// The same of a mapping that shows the rows of this table.
    pub(super) fn showing(self, table: &str) -> Self {
        Self { shows: Some(Arc::from(table)), ..self }
    }

    /// The same of a table that was the mapping's once, or is another than it was: its keys are told, and not what
    /// their rows are.
    pub(super) fn former(self) -> Self {
        Self { shows: None, ..self }
    }

    /// The same, but that it cannot be told key by key.
    pub(super) fn whole(self) -> Self {
        Self { key: None, counted: None, shows: None, ..self }
    }

    /// What it is told of a row.
    pub(super) fn told(&self, row: &Row<'_, '_>) -> Told {
        if let (Some(counted), Row::Changed { old: Some(old), new }) = (&self.counted, row)
            && counted.iter().all(|column| is_same(old, new, *column))
            && self.key.as_ref().is_none_or(|key| key.columns.iter().all(|(column, _)| is_same(old, new, *column)))
        {
            return Told::Keys(Vec::new());
        }
        let Some(key) = &self.key else { return Told::Whole };
        key.of_row(row).map_or(Told::Whole, Told::Keys)
    }
}

/// Where a column stands in the rows that are sent.
fn place(relation: &Relation, name: &str) -> Option<usize> {
    relation.columns.iter().position(|column| column.name == name)
}

impl Key {
    /// Nothing where a column is not sent.
    fn of(parts: &KeyParts, relation: &Relation, spellings: &[Spelling]) -> Option<Self> {
        let columns: Vec<usize> = parts.columns.iter().map(|name| place(relation, name)).collect::<Option<_>>()?;
        let is_identity = relation.is_full || columns.iter().all(|column| relation.columns[*column].is_identity);
        let spelling = |column: usize| (column, spellings.get(column).copied().unwrap_or(Spelling::Unknown));
        let columns = columns.into_iter().map(spelling).collect();
        Some(Self { literals: parts.literals.clone(), columns, is_identity })
    }

    /// The keys of a row, before and after; none if they are not known.
    fn of_row(&self, row: &Row<'_, '_>) -> Option<Vec<ToldKey>> {
        let mut keys = Vec::with_capacity(2);
        match row {
            // What is not sent of an old row looks like NULL.
            Row::Gone(_) | Row::Changed { .. } if !self.is_identity => return None,
            Row::Come(row) => keys.extend(self.text(row, None)?.map(ToldKey::came)),
            Row::Gone(row) => keys.extend(self.text(row, None)?.map(ToldKey::went)),
            Row::Changed { old: None, new } => keys.extend(self.text(new, None)?.map(ToldKey::came)),
            Row::Changed { old: Some(old), new } => {
                let (old, new) = (self.text(old, None)?, self.text(new, Some(old))?);
                keys.extend(old.filter(|old| new.as_ref() != Some(old)).map(ToldKey::went));
                keys.extend(new.map(ToldKey::came));
            }
        }
        Some(keys)
    }

    /// The key of a row; `Some(None)` where a part is NULL, so that the row has none. What is not sent of it because it
    /// was not changed is in the old row.
    fn text(&self, row: &Tuple<'_>, old: Option<&Tuple<'_>>) -> Option<Option<Bytes>> {
        let mut literals = self.literals.iter();
        let mut text = literals.next()?.clone().into_bytes();
        for ((column, spelling), literal) in self.columns.iter().zip(literals) {
            let value = match row.get(*column)? {
                Value::Unchanged => old?.get(*column)?,
                value => value,
            };
            match value {
                Value::Null => return Some(None),
                Value::Unchanged => return None,
                Value::Text(value) => text.extend_from_slice(&spelling.of(value)?),
            }
            text.extend_from_slice(literal.as_bytes());
        }
        Some(Some(text.into()))
    }
}

fn is_same(old: &Tuple<'_>, new: &Tuple<'_>, column: usize) -> bool {
    match (old.get(column), new.get(column)) {
        (_, Some(Value::Unchanged)) => true,
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Concern, Row, Spelling, Told, ToldKey};
    use crate::store::postgres::feed::replication::pgoutput::{Column, Relation, Value};
    use crate::store::triggers::{Interest, KeyParts};

    /// A table of the columns `id`, `flag` and `v`, and the key `a:{id}:{flag}`.
    fn concern(is_full: bool, identity: &[&str], counted: Option<&[&str]>) -> Concern {
        let columns = ["id", "flag", "v"].map(|name| Column {
            name: name.into(),
            is_identity: is_full || identity.contains(&name),
            type_id: 25,
        });
        let literals = vec!["a:".into(), ":".into(), String::new()];
        let key = Some(KeyParts { literals, columns: vec!["id".into(), "flag".into()] });
        let counted = counted.map(|names| names.iter().map(ToString::to_string).collect());
        let interest = Interest { pattern: "a:{id}:{flag}".into(), key, counted, is_shown: true };
        let relation = Relation { id: 1, is_full, columns: columns.to_vec() };
        Concern::of(&interest, &relation, &[Spelling::Same, Spelling::Boolean, Spelling::Same])
    }

    fn row<'m>(id: &'m str, flag: &'m str, v: &'m str) -> Vec<Value<'m>> {
        [id, flag, v].map(|text| Value::Text(text.as_bytes())).to_vec()
    }

    /// These keys; in front of one that has no row any more stands a `-`.
    fn keys(keys: &[&'static str]) -> Told {
        let key = |key: &&'static str| match key.strip_prefix('-') {
            Some(key) => ToldKey::went(key.into()),
            None => ToldKey::came((*key).into()),
        };
        Told::Keys(keys.iter().map(key).collect())
    }

    #[test]
    fn a_row_that_moves_is_told_with_both_keys() {
        let concern = concern(false, &["id", "flag"], None);
        let (old, new) = (row("1", "t", ""), row("2", "t", "x"));
        assert_eq!(concern.told(&Row::Changed { old: Some(&old), new: &new }), keys(&["-a:1:true", "a:2:true"]));
        assert_eq!(concern.told(&Row::Changed { old: None, new: &new }), keys(&["a:2:true"]));
        assert_eq!(concern.told(&Row::Gone(&old)), keys(&["-a:1:true"]));
        assert_eq!(concern.told(&Row::Come(&old)), keys(&["a:1:true"]));
    }

    #[test]
    fn a_key_that_may_have_moved_unseen_is_the_whole_mapping() {
        let concern = concern(false, &["id"], None);
        let new = row("2", "t", "x");
        assert_eq!(concern.told(&Row::Changed { old: None, new: &new }), Told::Whole);
        let old = vec![Value::Text(b"1"), Value::Null, Value::Null];
        assert_eq!(concern.told(&Row::Changed { old: Some(&old), new: &new }), Told::Whole);
        assert_eq!(concern.told(&Row::Gone(&old)), Told::Whole);
        assert_eq!(concern.told(&Row::Come(&new)), keys(&["a:2:true"]));
    }

    #[test]
    fn what_nobody_shows_is_not_told_where_old_rows_come_whole() {
        let shown = concern(true, &[], Some(&[]));
        let (old, new) = (row("1", "t", "x"), row("1", "t", "y"));
        let changed = Row::Changed { old: Some(&old), new: &new };
        assert_eq!(shown.told(&changed), keys(&[]));
        assert_eq!(concern(true, &[], Some(&["v"])).told(&changed), keys(&["a:1:true"]));
        let unchanged = vec![Value::Text(b"1"), Value::Text(b"t"), Value::Unchanged];
        assert_eq!(
            concern(true, &[], Some(&["v"])).told(&Row::Changed { old: Some(&old), new: &unchanged }),
            keys(&[])
        );
    }

    #[test]
    fn a_large_part_of_a_key_that_is_not_sent_is_in_the_old_row() {
        let concern = concern(false, &["id", "flag"], None);
        let (old, new) = (row("1", "f", ""), vec![Value::Unchanged, Value::Text(b"f"), Value::Null]);
        assert_eq!(concern.told(&Row::Changed { old: Some(&old), new: &new }), keys(&["a:1:false"]));
        assert_eq!(concern.told(&Row::Changed { old: None, new: &new }), Told::Whole);
        let none = vec![Value::Null, Value::Text(b"f"), Value::Null];
        assert_eq!(concern.told(&Row::Come(&none)), keys(&[]));
    }

    #[test]
    fn texts_are_those_of_a_cast() {
        let spelled = |spelling: Spelling, text: &str| spelling.of(text.as_bytes()).map(|text| text.to_vec());
        for (spelling, text, cast) in [
            (Spelling::Same, "a ", "a "),
            (Spelling::Padded, "a b  ", "a b"),
            (Spelling::Padded, "  ", ""),
            (Spelling::Boolean, "f", "false"),
            (Spelling::Address, "10.0.0.1", "10.0.0.1/32"),
            (Spelling::Address, "::1", "::1/128"),
            (Spelling::Address, "10.0.0.0/8", "10.0.0.0/8"),
        ] {
            assert_eq!(spelled(spelling, text), Some(cast.as_bytes().to_vec()));
        }
        assert_eq!(spelled(Spelling::Unknown, "a"), None);
    }
}

//! The order of deferred writes of one table: what several mappings write to the same column, perhaps of the same row,
//! is saved in the order in which it was written.
//!
//! Mappings whose keys are made of the same columns tell rows apart. Of keys of any other two mappings it is not known
//! whether they are one row, so that they count as one.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::Memory;
use super::overlay::{Dirty, Rows, Waiting};
use crate::cache::source::Source;
use crate::config::MappingConfig;
use crate::journal::{Change, Entry};
use crate::keys::MappingId;
use crate::mapping::Mapping;
use crate::record::Edit;

/// The columns that a write changes.
#[derive(Clone, Debug)]
pub(crate) enum Touched {
    /// All of its row, or of several rows.
    Everything,
    Columns(HashSet<Bytes>),
}

/// Which keys a batch may be made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'c> {
    /// The most keys.
    pub(crate) most: usize,
    /// They have waited since before this number.
    pub(crate) until: u64,
    /// The mappings that may have a batch now.
    pub(crate) able: &'c [MappingId],
}

/// The mappings of one table.
struct OneTable<'s>(Vec<Placed<'s>>);

/// A mapping, and the columns that its keys are made of.
struct Placed<'s> {
    mapping: &'s Mapping,
    /// In the order of the placeholders.
    keys: Vec<String>,
    sorted: Vec<String>,
}

/// The number of the oldest change of each column that waits, by mapping.
type Firsts<'k> = HashMap<(MappingId, &'k [u8]), u64>;

/// The columns that a field of a mapping may be kept in. Which fields are members of the overflow column only the store
/// knows.
fn columns_of_field<'c>(block: &'c MappingConfig, field: &'c [u8]) -> impl Iterator<Item = &'c [u8]> {
    let name = if field.is_empty() { block.value.as_deref().unwrap_or_default().as_bytes() } else { field };
    std::iter::once(name).chain(block.overflow.as_deref().map(str::as_bytes))
}

/// The columns that a deferred change is saved in.
fn columns_of_change<'c>(block: &'c MappingConfig, change: &'c Change) -> impl Iterator<Item = &'c [u8]> {
    let (field, ends) = match change {
        Change::Field(field, _) => (Some(&**field), None),
        Change::Expiry(_) => (None, block.expires_column.as_deref()),
    };
    field.into_iter().flat_map(|field| columns_of_field(block, field)).chain(ends.map(str::as_bytes))
}

impl Touched {
    /// What an edit changes.
    pub(crate) fn by(mapping: &Mapping, edit: &Edit) -> Self {
        let Edit::Fields(changes, _) = edit else { return Self::Everything };
        let columns = changes.iter().flat_map(|(field, _)| columns_of_field(&mapping.config, field));
        Self::Columns(columns.map(Bytes::copy_from_slice).collect())
    }

    fn by_changes(mapping: &Mapping, entries: &[Entry]) -> Self {
        let columns = entries.iter().flat_map(|entry| columns_of_change(&mapping.config, &entry.change));
        Self::Columns(columns.map(Bytes::copy_from_slice).collect())
    }

    fn concerns(&self, mapping: &Mapping, entries: &[Entry]) -> bool {
        let Self::Columns(touched) = self else { return true };
        let mut columns = entries.iter().flat_map(|entry| columns_of_change(&mapping.config, &entry.change));
        columns.any(|column| touched.contains(column))
    }
}

impl<'s> Placed<'s> {
    fn of(mapping: &'s Mapping) -> Self {
        let keys = mapping.columns(&mapping.config.key_columns);
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        Self { mapping, keys, sorted }
    }

    fn id(&self) -> MappingId {
        self.mapping.id
    }

    /// True when keys of both are made of the same columns.
    fn tells_rows_of(&self, other: &Self) -> bool {
        self.sorted == other.sorted
    }

    /// The key of the same row in a mapping whose keys are made of the same columns, if it has one.
    fn key_in(&self, other: &Self, key: &[u8]) -> Option<Vec<u8>> {
        let texts = self.mapping.pattern.captures(key)?;
        let text = |column: &String| texts.get(self.keys.iter().position(|own| own == column)?).copied();
        other.mapping.pattern.render(&other.keys.iter().map(text).collect::<Option<Vec<&[u8]>>>()?)
    }
}

impl<'s> OneTable<'s> {
    fn of(source: &'s Source, mappings: &[MappingId]) -> Self {
        Self(mappings.iter().filter_map(|id| Some(Placed::of(source.cached(*id)?.mapping()))).collect())
    }

    /// A mapping, and the others.
    fn parted(&self, id: MappingId) -> Option<(&Placed<'s>, impl Iterator<Item = &Placed<'s>> + Clone)> {
        let own = self.0.iter().find(|placed| placed.id() == id)?;
        Some((own, self.0.iter().filter(move |placed| placed.id() != id)))
    }

    /// The oldest changes of mappings whose rows some other mapping cannot tell.
    fn firsts<'k>(&'k self, keys: &'k Waiting) -> Firsts<'k> {
        let is_told = |one: &Placed<'_>| self.0.iter().all(|other| one.tells_rows_of(other));
        let untold: HashMap<MappingId, &Mapping> =
            self.0.iter().filter(|one| !is_told(one)).map(|one| (one.id(), one.mapping)).collect();
        let mut firsts = Firsts::new();
        if untold.is_empty() {
            return firsts;
        }
        for dirty in keys.values() {
            let Some(mapping) = untold.get(&dirty.mapping) else { continue };
            for entry in &dirty.entries {
                for column in columns_of_change(&mapping.config, &entry.change) {
                    let first = firsts.entry((dirty.mapping, column)).or_insert(entry.seq);
                    *first = entry.seq.min(*first);
                }
            }
        }
        firsts
    }

    /// What of a key's changes goes before another mapping has an older change of the same column, perhaps in the same
    /// row.
    fn before_others(&self, keys: &Waiting, firsts: &Firsts<'_>, (key, dirty): (&Bytes, &Dirty)) -> Vec<Entry> {
        let Some((own, others)) = self.parted(dirty.mapping) else { return dirty.entries.clone() };
        let (told, untold): (Vec<_>, Vec<_>) = others.partition(|other| own.tells_rows_of(other));
        let same_row: Vec<(&Placed<'_>, &Dirty)> =
            told.into_iter().filter_map(|other| Some((other, waiting_in(keys, other, own, key)?))).collect();
        let is_late = |entry: &&Entry| {
            columns_of_change(&own.mapping.config, &entry.change).any(|column| {
                let is_older = |(other, dirty): &(&Placed<'_>, &Dirty)| {
                    let mut older = dirty.entries.iter().filter(|older| older.seq < entry.seq);
                    older.any(|older| columns_of_change(&other.mapping.config, &older.change).any(|of| of == column))
                };
                let first = |other: &&Placed<'_>| firsts.get(&(other.id(), column)).copied();
                same_row.iter().any(is_older) || untold.iter().filter_map(first).any(|first| first < entry.seq)
            })
        };
        let until = dirty.entries.iter().filter(is_late).map(|entry| entry.seq).min().unwrap_or(u64::MAX);
        dirty.entries.iter().filter(|entry| entry.seq < until).cloned().collect()
    }
}

/// What waits for the key that the row of `key` has in another mapping.
fn waiting_in<'k>(keys: &'k Waiting, other: &Placed<'_>, own: &Placed<'_>, key: &[u8]) -> Option<&'k Dirty> {
    let other_key = own.key_in(other, key)?;
    keys.get(&other_key[..]).filter(|dirty| dirty.mapping == other.id())
}

impl Memory {
    /// Keys of one mapping with what is saved of them next, those that have waited longest first; `table` are the
    /// mappings of their table. Only what `may_go` counts. What waits behind an older change of the same column by
    /// another of these mappings, whatever keeps that, is left for the time after it.
    pub(crate) fn next_rows(
        &self,
        table: &[MappingId],
        choice: Choice<'_>,
        may_go: impl Fn(&Bytes, &[Entry]) -> bool,
    ) -> Option<(MappingId, Rows)> {
        let table = OneTable::of(&self.source, table);
        let keys = self.overlay.keys();
        let is_able = |dirty: &Dirty| choice.able.contains(&dirty.mapping) && dirty.age() < choice.until;
        let mut waiting: Vec<(&Bytes, &Dirty)> = keys.iter().filter(|(_, dirty)| is_able(dirty)).collect();
        waiting.sort_unstable_by_key(|(_, dirty)| dirty.age());
        let firsts = table.firsts(&keys);
        let (mut of, mut rows) = (None, Rows::new());
        for (key, dirty) in waiting {
            if rows.len() == choice.most {
                break;
            }
            if of.is_some_and(|mapping| mapping != dirty.mapping) {
                continue;
            }
            let entries = table.before_others(&keys, &firsts, (key, dirty));
            if !entries.is_empty() && may_go(key, &entries) {
                of = Some(dirty.mapping);
                rows.push((key.clone(), entries));
            }
        }
        Some((of?, rows))
    }

    /// The keys of which something must be saved before a write of `key`, so that nothing older is saved over it: those
    /// of other mappings of its table that have a deferred change of a touched column, perhaps in the same row, and
    /// what must go before these.
    pub(crate) fn ahead_of(
        &self,
        table: &[MappingId],
        (mapping, key): (MappingId, &Bytes),
        touched: Touched,
    ) -> HashSet<Bytes> {
        let (table, keys) = (OneTable::of(&self.source, table), self.overlay.keys());
        let (mut ahead, mut looked_for) = (HashSet::new(), HashSet::new());
        let mut to_come = vec![(mapping, key, touched)];
        while let Some((mapping, key, touched)) = to_come.pop() {
            let Some((own, others)) = table.parted(mapping) else { continue };
            for other in others {
                let found: Vec<(&Bytes, &Dirty)> = if own.tells_rows_of(other) {
                    own.key_in(other, key).and_then(|key| keys.get_key_value(&key[..])).into_iter().collect()
                } else if touched.is_new_in(other.id(), &mut looked_for) {
                    keys.iter().collect()
                } else {
                    Vec::new()
                };
                for (key, dirty) in found {
                    let is_ahead = dirty.mapping == other.id() && touched.concerns(other.mapping, &dirty.entries);
                    if is_ahead && ahead.insert(key.clone()) {
                        to_come.push((other.id(), key, Touched::by_changes(other.mapping, &dirty.entries)));
                    }
                }
            }
        }
        ahead
    }

    /// The same of a key's own deferred changes, and the key itself; nothing where none waits.
    pub(crate) fn with_ahead(&self, table: &[MappingId], key: &Bytes) -> HashSet<Bytes> {
        let Some(dirty) = self.overlay.of(key) else { return HashSet::new() };
        let touched = self.source.cached(dirty.mapping).map(|own| Touched::by_changes(own.mapping(), &dirty.entries));
        let ahead = touched.map(|touched| self.ahead_of(table, (dirty.mapping, key), touched));
        ahead.into_iter().flatten().chain([key.clone()]).collect()
    }
}

impl Touched {
    /// True unless every key of the mapping has been looked at for these columns already, which is noted.
    fn is_new_in(&self, mapping: MappingId, looked_for: &mut HashSet<(MappingId, Option<Bytes>)>) -> bool {
        if looked_for.contains(&(mapping, None)) {
            return false;
        }
        match self {
            Self::Everything => looked_for.insert((mapping, None)),
            Self::Columns(columns) => {
                let mut is_new = false;
                for column in columns {
                    is_new |= looked_for.insert((mapping, Some(column.clone())));
                }
                is_new
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Placed, Touched};
    use crate::config::{Config, Faults};
    use crate::journal::{Change, Entry};
    use crate::mapping::{Mapping, Mappings};
    use crate::record::{self, Condition, Edit};

    const CONFIG: &str = r#"
        [[caches]]
        key = "a:{x}:{y:int}"
        type = "hash"
        table = "t"
        overflow = "more"
        expires_column = "ends"
        write = "deferred"
        [[caches]]
        key = "b:{one:int}:{two}"
        type = "string"
        table = "t"
        value = "v"
        key_columns = { one = "y", two = "x" }
        write = "deferred"
        [[caches]]
        key = "c:{x}"
        type = "string"
        table = "t"
        value = "more"
        write = "through"
    "#;

    fn mappings() -> Vec<Mapping> {
        let config: Config = crate::config::read("test", CONFIG, std::iter::empty()).config;
        Mappings::compile(&config, &mut Faults::default()).list
    }

    fn touches(mapping: &Mapping, field: &'static str, other: &Mapping, change: Change) -> bool {
        let edit = Edit::Fields(vec![(field.into(), record::Change::Clear)], Condition::Always);
        let entry = Entry { seq: 1, mapping: other.pattern.text().into(), key: "k".into(), change };
        Touched::by(mapping, &edit).concerns(other, &[entry])
    }

    #[test]
    fn keys_of_the_same_columns_are_one_row_whatever_their_order() {
        let mappings = mappings();
        let [a, b, c] = [0, 1, 2].map(|at| Placed::of(&mappings[at]));
        assert!(a.tells_rows_of(&b) && b.tells_rows_of(&a) && !a.tells_rows_of(&c));
        assert_eq!(a.key_in(&b, b"a:left:7").as_deref(), Some(&b"b:7:left"[..]));
        assert_eq!(b.key_in(&a, b"b:7:left").as_deref(), Some(&b"a:left:7"[..]));
        assert_eq!(a.key_in(&b, b"no key of it"), None);
    }

    #[test]
    fn a_value_a_field_a_member_and_an_expiry_are_columns() {
        let mappings = mappings();
        let [a, b, c] = [&mappings[0], &mappings[1], &mappings[2]];
        let field = |name: &'static str| Change::Field(name.into(), None);
        assert!(touches(b, "", a, field("v")) && touches(a, "v", b, field("")));
        assert!(!touches(b, "", a, field("w")) && !touches(b, "", a, Change::Expiry(None)));
        assert!(touches(c, "", a, field("member")), "it may be a member of what the other shows as a value");
        assert!(touches(a, "ends", a, Change::Expiry(None)));
        let entry = Entry { seq: 1, mapping: "".into(), key: "k".into(), change: field("w") };
        assert!(Touched::by(a, &Edit::Delete).concerns(b, &[entry]));
    }
}

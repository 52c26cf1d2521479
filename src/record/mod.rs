//! The value of one owned key (a hash, list, string or set) and all commands on it: each is read and answered here, as
//! Redis does it. Pure. `verbs.rs` is the table of the commands. Reads are in `read.rs`, `collections.rs`, `scan.rs`
//! (with LPOS) and `random.rs`; writes in `write.rs`, `set.rs` and `edit.rs`; `expire.rs` and `ttl.rs` are about when a
//! key expires; `events.rs` says what is told of a write.
//!
//! A record keeps its elements already encoded as RESP bulk strings, one behind the other; RESP2 and RESP3
//! differ only in the header before them. So a whole-value reply is a header and one copy, and a single
//! field's reply is a slice. The bytes are the record's own, or those of another one with the same value, never a slice
//! of a read buffer, and there is one allocation of them.

mod body;
mod collections;
mod difference;
mod edit;
mod events;
mod expire;
mod random;
mod read;
mod scan;
mod set;
mod ttl;
mod verbs;
mod write;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

pub use difference::Difference;
pub use edit::{Change, Condition, Decimal, Edit, RowEdit};
pub use events::KeyEvent;
pub use expire::ExpireCommand;
pub use read::{Answer, ReadError};
pub use ttl::View;
pub use verbs::{ParseExpire, Verb, WriteVerb, verb_of};
pub use write::{TtlChange, Write, Written};

use body::Body;

pub use crate::config::Shape;

/// What a record costs beside its bytes: two allocations, the cache's own entry, counters.
const OVERHEAD: usize = 200;

/// Records by key.
pub type Table = HashMap<Box<[u8]>, Record, foldhash::quality::RandomState>;

/// One record. Cheap to share, never changed: a write makes a new one.
#[derive(Clone, Debug)]
pub struct Record {
    shape: Shape,
    body: Body,
    /// Milliseconds that the key had to live when this was read, where its row says that; `None`: it does not expire.
    /// None are left, or less than none, of one that has ended.
    pub left: Option<i64>,
}

/// The same value, whatever it was made of.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.body.encoded() == other.body.encoded()
    }
}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.shape as u8, self.body.encoded()).hash(state);
    }
}

impl Record {
    /// True when two records have the same value, in whatever order hashes and sets have theirs.
    #[must_use]
    pub fn same(a: &Self, b: &Self) -> bool {
        match a.shape {
            Shape::Hash | Shape::Set if a.shape == b.shape && a.len() == b.len() => {
                (0..a.len()).all(|i| match (a.shape, b.find(a.name(i))) {
                    (_, None) => false,
                    (Shape::Hash, Some(j)) => a.text(i * 2 + 1) == b.text(j * 2 + 1),
                    (_, Some(_)) => true,
                })
            }
            _ => a == b,
        }
    }
}

/// The value is too large to be a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value is larger than 4 GiB")]
pub struct TooLarge;

impl Record {
    /// A hash of these pairs, in this order. The fields must differ.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn hash<F: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(F, V)]) -> Result<Self, TooLarge> {
        Self::build(Shape::Hash, pairs.iter().flat_map(|(f, v)| [f.as_ref(), v.as_ref()]))
    }

    /// A list of these elements.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn list<E: AsRef<[u8]>>(elements: &[E]) -> Result<Self, TooLarge> {
        Self::build(Shape::List, elements.iter().map(AsRef::as_ref))
    }

    /// A string.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn string(value: &[u8]) -> Result<Self, TooLarge> {
        Self::build(Shape::String, std::iter::once(value))
    }

    /// A set of these members; repeated ones count once.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn set<E: AsRef<[u8]>>(members: &[E]) -> Result<Self, TooLarge> {
        let mut seen = std::collections::HashSet::new();
        Self::build(Shape::Set, members.iter().map(AsRef::as_ref).filter(|m| seen.insert(*m)))
    }

    /// The command of Redis that gives all parts of a value of this type, and what stands behind its key.
    #[must_use]
    pub const fn asked_whole(shape: Shape) -> (&'static str, &'static [&'static str]) {
        match shape {
            Shape::Hash => ("HGETALL", &[]),
            Shape::List => ("LRANGE", &["0", "-1"]),
            Shape::String => ("GET", &[]),
            Shape::Set => ("SMEMBERS", &[]),
        }
    }

    /// The value of this type whose parts are these, as HGETALL, LRANGE, SMEMBERS and GET give them; `None` of a hash,
    /// list or set if there are none.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn of_parts<P: AsRef<[u8]>>(shape: Shape, parts: &[P]) -> Result<Option<Self>, TooLarge> {
        let record = match shape {
            Shape::Hash => {
                let pairs = parts.chunks_exact(2).map(|pair| (&pair[0], &pair[1]));
                Self::hash(&pairs.collect::<Vec<_>>())?
            }
            Shape::List => Self::list(parts)?,
            Shape::Set => Self::set(parts)?,
            Shape::String => return parts.first().map(|text| Self::string(text.as_ref())).transpose(),
        };
        Ok(Some(record).filter(|record| !record.is_empty()))
    }

    fn build<'e>(shape: Shape, elements: impl Iterator<Item = &'e [u8]>) -> Result<Self, TooLarge> {
        let stride = match shape {
            Shape::Hash => Some(2),
            Shape::Set => Some(1),
            Shape::List | Shape::String => None,
        };
        Ok(Self { shape, body: Body::of(elements, stride).ok_or(TooLarge)?, left: None })
    }

    /// The same, with so many milliseconds to live.
    #[must_use]
    pub fn living(self, left: Option<i64>) -> Self {
        Self { left, ..self }
    }

    /// The same value for what takes this record's place: from then on copies share its bytes.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { body: self.body.shared(), ..*self }
    }

    /// True when the key had ended when this was read.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.left.is_some_and(|left| left <= 0)
    }

    /// The shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// What the record costs in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.body.weight() + OVERHEAD
    }

    /// Fields of a hash, elements of a list or set; 1 for a string.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.body.len() / self.stride()
    }

    /// True for a value that Redis would not keep: an empty hash, list or set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.body.len() == 0
    }

    /// Elements per entry: a hash has a field and a value.
    const fn stride(&self) -> usize {
        match self.shape {
            Shape::Hash => 2,
            _ => 1,
        }
    }

    fn text(&self, element: usize) -> &[u8] {
        self.body.text(element)
    }

    /// The encoded bulk strings of elements `from..to`.
    fn encoded(&self, from: usize, to: usize) -> &[u8] {
        self.body.range(from, to)
    }

    /// Field, element or member `i`.
    fn name(&self, i: usize) -> &[u8] {
        self.text(i * self.stride())
    }

    /// The place of a field or member.
    fn find(&self, name: &[u8]) -> Option<usize> {
        self.body.find(name, self.stride())
    }

    /// A string's bytes.
    fn value(&self) -> &[u8] {
        if self.is_empty() { &[] } else { self.text(0) }
    }

    /// A hash field's encoded value.
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.find(name).map(|i| self.encoded(i * 2 + 1, i * 2 + 2))
    }

    /// This hash or string with other values of these fields; a field without a value is removed. `None`: nothing is
    /// left.
    #[must_use]
    pub fn with(&self, changes: &[(&[u8], Option<&[u8]>)]) -> Option<Self> {
        if self.shape == Shape::String {
            let value = changes.last().map_or(Some(self.value()), |(_, value)| *value)?;
            return Self::string(value).ok().map(|record| Self { left: self.left, ..record });
        }
        let changed = |name: &[u8]| changes.iter().rev().find(|(field, _)| *field == name).map(|(_, value)| *value);
        let kept = (0..self.len()).filter_map(|i| {
            let name = self.name(i);
            changed(name).unwrap_or(Some(self.text(i * 2 + 1))).map(|value| (name, value))
        });
        let is_new = |(field, _): &&(&[u8], Option<&[u8]>)| self.find(field).is_none();
        let mut pairs: Vec<(&[u8], &[u8])> = kept.collect();
        for (field, value) in changes.iter().filter(is_new) {
            pairs.retain(|(name, _)| name != field);
            pairs.extend(value.map(|value| (*field, value)));
        }
        Self::hash(&pairs).ok().filter(|record| !record.is_empty()).map(|record| Self { left: self.left, ..record })
    }

    /// A hash field's text; a string's where the field has no name.
    #[must_use]
    pub fn field_text(&self, name: &[u8]) -> Option<&[u8]> {
        match self.shape {
            Shape::String => Some(self.value()),
            _ => self.find(name).map(|i| self.text(i * 2 + 1)),
        }
    }

    /// A string's encoded value, for MGET; `None` for the other shapes.
    #[must_use]
    pub fn encoded_string(&self) -> Option<&[u8]> {
        (self.shape == Shape::String).then(|| self.body.encoded())
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn finds_names_in_small_and_large_hashes() {
        for size in [1_usize, 12, 13, 500] {
            let pairs: Vec<_> = (0..size).map(|i| (format!("f{i}"), format!("v{i}"))).collect();
            let record = Record::hash(&pairs).expect("fits");
            assert_eq!(record.len(), size);
            for (field, value) in &pairs {
                let encoded = format!("${}\r\n{value}\r\n", value.len());
                assert_eq!(record.field(field.as_bytes()), Some(encoded.as_bytes()));
            }
            assert_eq!(record.field(b"none"), None);
        }
    }

    #[test]
    fn a_set_has_each_member_once() {
        assert_eq!(Record::set(&["a", "b", "a"]).expect("fits").len(), 2);
    }
}

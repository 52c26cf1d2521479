//! Rows as the server's log has them: each column's text, under its name and its type's. A mapping whose record such a
//! row certainly is knows so (`log_form`). How much of them is in memory at once has a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;

use crate::telemetry::clock::Tick;

/// So many bytes of rows are held at most until they can be seen.
const MOST_BYTES: usize = 16 << 20;

/// A look at what is visible in the database: its number among all looks of this process, and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The first is 1.
    pub number: u64,
    /// Whatever was asked before that had an answer as old as the look, or older.
    pub at: Tick,
}

/// What one commit left behind a key that it changed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The key.
    pub key: Bytes,
    /// The last look that did not see the commit: what had been read before it is older than the commit.
    pub unseen: Look,
    /// Whether this and the others that come with it are all that the commit changed of the mapping.
    pub is_all: bool,
    pub(super) left: Left,
}

impl RowChange {
    /// True when no row has the key any more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.left.row.is_none()
    }

    /// The table, as the mapping writes it.
    #[must_use]
    pub const fn table(&self) -> &Arc<str> {
        &self.left.table
    }
}

/// What is left behind a key, in the table of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// The table, as the mapping writes it.
    pub(super) table: Arc<str>,
    /// None: no row has the key.
    pub(super) row: Option<Arc<LoggedRow>>,
}

/// A column of a table as its rows are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoggedColumn {
    pub(super) name: String,
    /// The type that its values have, whatever domains are made of it, without a schema.
    pub(super) kind: String,
}

/// What the log says of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoggedValue<'r> {
    Null,
    /// It was not changed, and is not sent.
    Unsent,
    Text(&'r [u8]),
}

/// Where a value's text ends; none: it has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Null,
    Unsent,
    Until(usize),
}

/// A row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LoggedRow {
    columns: Arc<[LoggedColumn]>,
    kept: Vec<Kept>,
    texts: Vec<u8>,
    share: Share,
}

impl LoggedRow {
    /// The values of these columns, if they may be held.
    pub(super) fn new<'r>(
        columns: &Arc<[LoggedColumn]>,
        values: impl Iterator<Item = LoggedValue<'r>>,
        budget: &RowBudget,
    ) -> Option<Self> {
        let (mut kept, mut texts) = (Vec::with_capacity(columns.len()), Vec::new());
        for value in values {
            kept.push(match value {
                LoggedValue::Null => Kept::Null,
                LoggedValue::Unsent => Kept::Unsent,
                LoggedValue::Text(text) => {
                    texts.extend_from_slice(text);
                    Kept::Until(texts.len())
                }
            });
        }
        let share = budget.take(texts.capacity() + kept.capacity() * size_of::<Kept>() + size_of::<Self>())?;
        (kept.len() == columns.len()).then(|| Self { columns: columns.clone(), kept, texts, share })
    }

    /// The value of a column of this name and type; none where there is no such column.
    pub(super) fn get(&self, name: &str, kind: &str) -> Option<LoggedValue<'_>> {
        let at = self.columns.iter().position(|column| column.name == name && column.kind == kind)?;
        let before = self.kept[..at].iter().rev().find_map(|kept| match kept {
            Kept::Until(end) => Some(*end),
            Kept::Null | Kept::Unsent => None,
        });
        Some(match self.kept[at] {
            Kept::Null => LoggedValue::Null,
            Kept::Unsent => LoggedValue::Unsent,
            Kept::Until(end) => LoggedValue::Text(&self.texts[before.unwrap_or_default()..end]),
        })
    }

    /// The names of its columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }
}

/// How many bytes of rows may still be held.
#[derive(Clone, Debug, Default)]
pub(super) struct RowBudget(Arc<AtomicUsize>);

impl RowBudget {
    fn take(&self, bytes: usize) -> Option<Share> {
        let taken = self.0.fetch_add(bytes, SeqCst);
        // It is given back when this is dropped.
        let share = Share { bytes, held: self.0.clone() };
        (taken + bytes <= MOST_BYTES).then_some(share)
    }
}

/// What one row takes of the budget.
#[derive(Debug)]
struct Share {
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Share {}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{LoggedColumn, LoggedRow, LoggedValue, MOST_BYTES, RowBudget};

    fn columns() -> Arc<[LoggedColumn]> {
        [("a", "int4"), ("b", "text"), ("c", "text"), ("d", "text")]
            .map(|(name, kind)| LoggedColumn { name: name.into(), kind: kind.into() })
            .into()
    }

    #[test]
    fn a_row_gives_each_value_under_its_name_and_type() {
        let values = [LoggedValue::Text(b"1"), LoggedValue::Null, LoggedValue::Unsent, LoggedValue::Text(b"xy")];
        let row = LoggedRow::new(&columns(), values.into_iter(), &RowBudget::default()).expect("there is room");
        for (name, kind, value) in [
            ("a", "int4", Some(LoggedValue::Text(b"1"))),
            ("a", "int8", None),
            ("b", "text", Some(LoggedValue::Null)),
            ("c", "text", Some(LoggedValue::Unsent)),
            ("d", "text", Some(LoggedValue::Text(b"xy"))),
            ("e", "text", None),
        ] {
            assert_eq!(row.get(name, kind), value, "{name} {kind}");
        }
    }

    #[test]
    fn rows_are_held_up_to_a_bound_and_give_their_room_back() {
        let (budget, large) = (RowBudget::default(), vec![b'x'; MOST_BYTES / 2]);
        let values = || std::iter::repeat_n(LoggedValue::Null, 3).chain([LoggedValue::Text(&large)]);
        let first = LoggedRow::new(&columns(), values(), &budget);
        assert!(first.is_some() && LoggedRow::new(&columns(), values(), &budget).is_none());
        drop(first);
        assert!(LoggedRow::new(&columns(), values(), &budget).is_some());
        assert!(LoggedRow::new(&columns(), [].into_iter(), &budget).is_none(), "a value is missing");
    }
}

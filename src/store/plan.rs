//! A mapping made ready for a store: its statements, where its writes go, and the mapping itself. Knows no engine:
//! `planning` makes its statements, `shape` makes records of its rows.

use bytes::Bytes;

use super::StoreError;
use super::catalog::described::Param;
use super::catalog::relation::Column;
use super::catalog::requirements::ColumnFault;
use super::catalog::target::{FieldChange, Place, Target, text};
use super::listing::Listing;
use super::log_form::LogForm;
use crate::config::Shape;
use crate::mapping::Mapping;
use crate::record::{Change, Edit};

/// Where a row's own key is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeySource {
    /// Extra columns [`key_column`], taken out of the row (a table).
    Extra,
    /// Columns named as the key's placeholders, which stay in the row (a query that selects them).
    Named,
    /// The row does not say; every placeholder is bound by a type with one spelling (a query).
    Bound,
}

/// The statements of a list that takes writes.
#[derive(Clone, Debug, Default)]
pub(super) struct ListStatements {
    pub(super) push: Option<ListStatement>,
    pub(super) remove: Option<ListStatement>,
}

/// One of them: its parameters are the key's, the element, and perhaps LREM's count.
#[derive(Clone, Debug)]
pub(super) struct ListStatement {
    pub(super) sql: String,
    pub(super) takes_count: bool,
}

/// A list's statement, and what it is run with: once for each element.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListEdit<'p> {
    pub(super) sql: &'p str,
    pub(super) elements: &'p [Bytes],
    /// LREM's count, if the statement takes it.
    pub(super) count: Option<i64>,
}

/// The statements of one mapping, and the mapping.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) mapping: Mapping,
    /// Loads one key: `$1` ... are what its placeholders hold, in order. Empty for definitions.
    pub(super) one: String,
    /// Loads several keys: `$1` ... are arrays of the same, and a row is what a key's rows are. Empty where there is no
    /// such statement.
    pub(super) several: String,
    /// Loads every definition. Empty for caches.
    pub(super) all: String,
    /// How they are bound, in Postgres.
    pub(super) params: Vec<Param>,
    pub(super) key: KeySource,
    /// The name of every column of its table: a member of the overflow column with one of these is not shown.
    pub(super) column_names: Vec<String>,
    /// How a row of the server's log becomes a record, where that is certain.
    pub(super) log_form: Option<LogForm>,
    /// Where writes go, of a mapping that takes them.
    pub(super) target: Option<Target>,
    /// Where its keys are listed, if they can be.
    pub(super) listing: Option<Listing>,
    /// How an element is pushed and taken out of a list, where the mapping says so.
    pub(super) list: ListStatements,
    /// Why what it defers could never be saved; it is served without deferred writes.
    pub(super) unsavable: Vec<ColumnFault>,
    /// Why it may not be written in every way that its block says: rights that are lacking. Writes are tried all the
    /// same.
    pub(super) unwritable: Vec<ColumnFault>,
    /// What is not certain of its columns: a key of the block, and the doubt.
    pub(super) doubts: Vec<(&'static str, String)>,
}

/// The name under which a table's key column `i` is selected.
pub(super) fn key_column(i: usize) -> String {
    format!("hearthside:key:{i}")
}

impl Plan {
    /// A plan without statements; the rows say their own keys like that.
    pub(super) fn new(mapping: &Mapping, key: KeySource) -> Self {
        Self {
            mapping: mapping.clone(),
            one: String::new(),
            several: String::new(),
            all: String::new(),
            params: Vec::new(),
            key,
            column_names: Vec::new(),
            log_form: None,
            target: None,
            listing: None,
            list: ListStatements::default(),
            unsavable: Vec::new(),
            unwritable: Vec::new(),
            doubts: Vec::new(),
        }
    }

    /// The mapping.
    #[must_use]
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// True when there is a statement that loads several keys.
    pub(super) const fn reads_several(&self) -> bool {
        !self.several.is_empty()
    }

    /// True when another plan has the same statements.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }

    /// What an operator should make certain: the mapping is served all the same. A key of the block, and the doubt.
    #[must_use]
    pub fn doubts(&self) -> &[(&'static str, String)] {
        &self.doubts
    }

    /// Refuses deferred writes that the store could never save.
    ///
    /// # Errors
    /// [`StoreError::Journal`].
    pub fn may_defer(&self) -> Result<(), StoreError> {
        let refused = |(_, why): &ColumnFault| StoreError::Journal(format!("deferred writes are refused: {why}"));
        self.unsavable.first().map_or(Ok(()), |fault| Err(refused(fault)))
    }

    /// What keeps deferred writes from being saved: a key of the block, and what is wrong.
    #[must_use]
    pub fn unsavable(&self) -> &[(&'static str, String)] {
        &self.unsavable
    }

    /// What keeps it from being written: a key of the block, and what is wrong.
    #[must_use]
    pub fn unwritable(&self) -> &[(&'static str, String)] {
        &self.unwritable
    }

    /// Refuses a value that its column would refuse, as far as that is known without asking.
    ///
    /// # Errors
    /// [`StoreError::Field`].
    pub fn check(&self, field: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let Some(target) = &self.target else { return Ok(()) };
        let field = text(field, "")?;
        target.place(field, &self.mapping.config)?.check(field, text(value, field)?)
    }

    /// The name of the table that its writes go to, the same for all mappings of the table; none while that is not
    /// known.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.table.as_str()).filter(|table| !table.is_empty())
    }

    /// True when a row cannot be without an expiry: its column may not be NULL.
    #[must_use]
    pub fn must_end(&self) -> bool {
        self.target.as_ref().and_then(|target| target.expires.as_ref()).is_some_and(|expires| expires.is_required)
    }

    pub(super) fn is_hash(&self) -> bool {
        self.mapping.config.shape == Shape::Hash
    }

    /// What the placeholders of a key hold, in order; `None` for a key that is not this mapping's.
    pub(super) fn values<'k>(&self, key: &'k [u8]) -> Option<Vec<&'k [u8]>> {
        self.mapping.pattern.captures(key)
    }

    /// Where writes go.
    ///
    /// # Errors
    /// [`StoreError::Refused`] of a mapping that takes none.
    pub(super) fn target(&self) -> Result<&Target, StoreError> {
        self.target.as_ref().ok_or_else(|| StoreError::Refused("the mapping has no table to write to".into()))
    }

    /// The column of a set's members.
    ///
    /// # Errors
    /// [`StoreError`] where there is none.
    pub(super) fn member_column(&self) -> Result<&Column, StoreError> {
        match self.target()?.place("", &self.mapping.config)? {
            Place::Column(column) => Ok(column),
            Place::Member(_) => Err(StoreError::Refused("a set has no column for its members".into())),
        }
    }

    /// Where each field of a write goes.
    ///
    /// # Errors
    /// [`StoreError::Field`] for a field that has no place.
    pub(super) fn places<'w>(&'w self, changes: &'w [(Bytes, Change)]) -> Result<Vec<FieldChange<'w>>, StoreError> {
        let target = self.target()?;
        let place = |(field, change): &'w (Bytes, Change)| {
            let field = text(field, "")?;
            Ok(FieldChange { field, place: target.place(field, &self.mapping.config)?, change })
        };
        changes.iter().map(place).collect()
    }

    /// The statement of an edit of a list.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the mapping has none, or the edit is of something else.
    pub(super) fn list_edit<'p>(&'p self, edit: &'p Edit) -> Result<ListEdit<'p>, StoreError> {
        let (statement, elements, count) = match edit {
            Edit::Push(elements) => (&self.list.push, elements.as_slice(), None),
            Edit::Pull(count, element) => (&self.list.remove, std::slice::from_ref(element), Some(*count)),
            _ => return Err(StoreError::Refused("a list takes elements only".into())),
        };
        let none = || StoreError::Refused("the mapping has no statement for that (push, remove)".into());
        let statement = statement.as_ref().ok_or_else(none)?;
        Ok(ListEdit { sql: &statement.sql, elements, count: count.filter(|_| statement.takes_count) })
    }
}

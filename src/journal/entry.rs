//! One change that waits for the store, in memory and in the journal's file. Only this file knows how an expiry is
//! written there.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::telemetry::clock::UnixMs;

/// One change that waits for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order of all entries.
    pub seq: u64,
    /// The mapping's key pattern.
    pub mapping: Arc<str>,
    /// The key.
    pub key: Bytes,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a key or of one of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The field gets this value; `None`: it goes. A string's value is the field whose name is empty.
    Field(Bytes, Option<Bytes>),
    /// The key expires at this moment; `None`: it does not expire.
    Expiry(Option<UnixMs>),
}

/// The name of the field as which the file keeps an expiry. Its value is the moment in decimal digits, and none if the
/// key does not expire. No column has this name, for names of columns hold no NUL.
const EXPIRY: &[u8] = b"\0ends";

impl Entry {
    /// What it counts against `journal.max_bytes`.
    pub(super) fn weight(&self) -> u64 {
        (64 + self.mapping.len() + self.key.len() + self.change.stored_length()) as u64
    }
}

impl Change {
    /// True when nothing is left of `earlier` once this is applied.
    #[must_use]
    pub fn replaces(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Field(name, _), Self::Field(other, _)) => name == other,
            (Self::Expiry(_), Self::Expiry(_)) => true,
            _ => false,
        }
    }

    /// Its field in the file.
    pub fn field(&self) -> &[u8] {
        match self {
            Self::Field(name, _) => name,
            Self::Expiry(_) => EXPIRY,
        }
    }

    /// The same, to be kept.
    pub(super) fn stored_field(&self) -> Bytes {
        match self {
            Self::Field(name, _) => name.clone(),
            Self::Expiry(_) => Bytes::from_static(EXPIRY),
        }
    }

    /// That field's value in the file.
    pub(super) fn stored_value(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Field(_, value) => value.as_deref().map(Cow::Borrowed),
            Self::Expiry(at) => at.map(|at| Cow::Owned(at.as_ms().to_string().into_bytes())),
        }
    }

    /// Reads a field and its value as the file has them.
    pub(super) fn from_stored(field: Vec<u8>, value: Option<Vec<u8>>) -> Self {
        if field != EXPIRY {
            return Self::Field(field.into(), value.map(Bytes::from));
        }
        let ms = value.and_then(|digits| std::str::from_utf8(&digits).ok()?.parse().ok());
        Self::Expiry(ms.map(UnixMs::from_ms))
    }

    /// The bytes of field and value in the file.
    fn stored_length(&self) -> usize {
        match self {
            Self::Field(name, value) => name.len() + value.as_ref().map_or(0, Bytes::len),
            Self::Expiry(at) => EXPIRY.len() + at.map_or(0, |at| digits(at.as_ms())),
        }
    }
}

/// How long a number is in decimal digits, its sign included.
fn digits(number: i64) -> usize {
    usize::from(number < 0) + number.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::{Change, digits};
    use crate::telemetry::clock::UnixMs;

    fn as_the_file_has_it(change: &Change) -> (Vec<u8>, Option<Vec<u8>>) {
        (change.field().to_vec(), change.stored_value().map(std::borrow::Cow::into_owned))
    }

    #[test]
    fn what_is_written_is_read_again_and_weighs_what_it_takes() {
        let expiry = |ms| Change::Expiry(Some(UnixMs::from_ms(ms)));
        let fields = [Change::Field("f".into(), Some("v".into())), Change::Field("".into(), None)];
        for change in fields.into_iter().chain([Change::Expiry(None), expiry(1_764_180_000_000), expiry(-7), expiry(0)])
        {
            let (field, value) = as_the_file_has_it(&change);
            assert_eq!(change.stored_length(), field.len() + value.as_ref().map_or(0, Vec::len));
            assert_eq!(Change::from_stored(field, value), change);
        }
    }

    #[test]
    fn an_expiry_stands_in_the_file_as_versions_before_wrote_it() {
        let (field, value) = as_the_file_has_it(&Change::Expiry(Some(UnixMs::from_ms(1_764_180_000_000))));
        assert_eq!((&field[..], value.as_deref()), (&b"\0ends"[..], Some(&b"1764180000000"[..])));
        assert_eq!(as_the_file_has_it(&Change::Expiry(None)), (b"\0ends".to_vec(), None));
    }

    #[test]
    fn a_newer_value_replaces_that_of_the_same_field_and_an_expiry_another() {
        let [f, g] = ["f", "g"].map(|name| Change::Field(name.into(), None));
        assert!(f.replaces(&f) && !f.replaces(&g) && !f.replaces(&Change::Expiry(None)));
        assert!(Change::Expiry(Some(UnixMs::from_ms(1))).replaces(&Change::Expiry(None)));
        assert!(!Change::Expiry(None).replaces(&f));
    }

    #[test]
    fn digits_are_counted() {
        for number in [0, 9, 10, -10, i64::MAX, i64::MIN] {
            assert_eq!(digits(number), number.to_string().len());
        }
    }
}

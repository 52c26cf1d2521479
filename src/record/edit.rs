//! What a write command (HSET, SET, APPEND, SADD, RPUSH, LREM and others) does to a key's value, as data: the store
//! carries it out, and the reply is made from the record afterwards.

use bytes::Bytes;

use super::Record;
use crate::errors::as_redis;
use crate::resp::number::parse_i64;

/// Fields and their values; `None`: none.
pub(super) type Values = Vec<(Bytes, Option<Bytes>)>;

/// What becomes of one field; a string's value is one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The field gets this value.
    Put(Bytes),
    /// The field is removed.
    Clear,
    /// An integer grows by so much.
    Add(i64),
    /// A number grows by this decimal.
    AddFloat(Decimal),
    /// The text is appended.
    Append(Bytes),
}

/// A finite decimal number in the form that SQL reads too: digits, perhaps a point, a sign, an exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal(String);

impl Decimal {
    /// Reads what Redis takes for a finite float; `None` for what it refuses, and for hexadecimal.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let is_decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let number: f64 = text.parse().ok()?;
        (is_decimal && number.is_finite()).then(|| Self(text.to_owned()))
    }

    /// The number as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// When a change of fields happens at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always; the row is inserted if there is none.
    Always,
    /// Only to a row that is there.
    RowExists,
    /// Only if the changed field has no value (HSETNX, SET NX).
    FieldAbsent,
    /// Only if the changed field has a value (SET XX).
    FieldPresent,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Fields of a hash, or the one of a string (with an empty name). Each field once.
    Fields(Vec<(Bytes, Change)>, Condition),
    /// Members of a set are added, or removed.
    Members(Vec<Bytes>, bool),
    /// Elements are appended to a list.
    Push(Vec<Bytes>),
    /// Elements equal to this are removed from a list, in the way LREM counts.
    Pull(i64, Bytes),
    /// The rows of the key are deleted.
    Delete,
}

/// An edit of a key, and when a row that it makes expires.
#[derive(Clone, Copy, Debug)]
pub struct RowEdit<'e> {
    /// What is asked.
    pub edit: &'e Edit,
    /// The milliseconds that a new row has to live; `None`: what its table says.
    pub left: Option<i64>,
    /// The key is known to live, though its row may say that it has ended: it is written as one that lives.
    pub lives: bool,
}

impl<'e> From<&'e Edit> for RowEdit<'e> {
    fn from(edit: &'e Edit) -> Self {
        Self { edit, left: None, lives: false }
    }
}

/// Digits behind the point that Redis keeps of a sum.
const PLACES: u32 = 17;

impl Decimal {
    /// The number with [`PLACES`] digits behind the point, as one integer; `None` if it is too large for that.
    fn scaled(text: &str) -> Option<i128> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (negative, digits) = match mantissa.as_bytes().first()? {
            b'-' => (true, &mantissa[1..]),
            b'+' => (false, &mantissa[1..]),
            _ => (false, mantissa),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let places = i64::from(PLACES) + exponent.parse::<i64>().ok()? - fraction.len() as i64;
        let mut number: i128 = [whole, fraction].concat().parse().ok()?;
        if places >= 0 {
            number = number.checked_mul(10_i128.checked_pow(u32::try_from(places).ok()?)?)?;
        } else {
            number /= 10_i128.checked_pow(u32::try_from(-places).ok()?)?;
        }
        Some(if negative { -number } else { number })
    }

    /// This number and another, as Redis writes a sum; `None` if that is no finite number of a size to be exact.
    fn sum(&self, other: &str) -> Option<String> {
        let sum = Self::scaled(&self.0)?.checked_add(Self::scaled(other)?)?;
        let unit = 10_i128.pow(PLACES);
        let sign = if sum < 0 { "-" } else { "" };
        let text = format!("{sign}{}.{:017}", (sum / unit).abs(), (sum % unit).abs());
        Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
    }
}

impl Edit {
    /// The values that the edit's fields take where the record is `old`; `None` when its condition does not hold.
    ///
    /// # Errors
    /// What Redis says of a value that is no number.
    pub fn changed(&self, old: Option<&Record>) -> Result<Option<Values>, &'static str> {
        let Self::Fields(fields, condition) = self else { return Ok(None) };
        let text = |field: &Bytes| old.and_then(|old| old.field_text(field));
        let holds = match condition {
            Condition::Always => true,
            Condition::RowExists => old.is_some(),
            Condition::FieldAbsent => fields.iter().all(|(field, _)| text(field).is_none()),
            Condition::FieldPresent => fields.iter().all(|(field, _)| text(field).is_some()),
        };
        if !holds {
            return Ok(None);
        }
        let after = |(field, change): &(Bytes, Change)| {
            change.apply(text(field), !field.is_empty()).map(|value| (field.clone(), value))
        };
        fields.iter().map(after).collect::<Result<Vec<_>, _>>().map(Some)
    }
}

impl Change {
    /// The text of a field whose text is `old`; `None`: none. For those who hold the value still while they ask.
    ///
    /// # Errors
    /// What Redis says of a value that is no number, by whether it is a hash's.
    pub fn apply(&self, old: Option<&[u8]>, in_hash: bool) -> Result<Option<Bytes>, &'static str> {
        let words = |hash, string| if in_hash { hash } else { string };
        Ok(Some(match self {
            Self::Put(value) => value.clone(),
            Self::Clear => return Ok(None),
            Self::Append(more) => [old.unwrap_or_default(), more].concat().into(),
            Self::Add(by) => {
                let not_integer = words(as_redis::HASH_NOT_INTEGER, as_redis::NOT_INTEGER);
                let old = parse_i64(old.unwrap_or(b"0")).ok_or(not_integer)?;
                let sum = old.checked_add(*by).ok_or(as_redis::OVERFLOWS)?;
                sum.to_string().into()
            }
            Self::AddFloat(by) => {
                let not_float = words(as_redis::HASH_NOT_FLOAT, as_redis::NOT_FLOAT);
                let old = Decimal::parse(old.unwrap_or(b"0")).ok_or(not_float)?;
                by.sum(old.text()).ok_or(as_redis::SUM_NOT_FINITE)?.into()
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Decimal};

    #[test]
    fn sums_are_written_as_redis_writes_them() {
        for (a, b, sum) in [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("-1", "0.75", "-0.25"),
            ("1", "-1", "0"),
            (".5", "3", "3.5"),
            ("1e-17", "0", "0.00000000000000001"),
        ] {
            let by = Decimal::parse(b.as_bytes()).expect("a number");
            let told = Change::AddFloat(by).apply(Some(a.as_bytes()), true);
            assert_eq!(told.expect("a number").as_deref(), Some(sum.as_bytes()), "{a} + {b}");
        }
        for text in ["", "x", "nan", "inf", "1e999", "0x10", " 1"] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
    }
}

//! What a placeholder of a key pattern accepts. Every kind but `Text` and `Path` takes one spelling of a value only.

use crate::resp::number::parse_i64;

/// What a placeholder accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceholderKind {
    /// One or more bytes other than `:`.
    Text,
    /// A canonical decimal within i64.
    Int,
    /// A UUID as 8-4-4-4-12 hexadecimal digits in small letters.
    Uuid,
    /// A day that there is, of the years 0001 to 9999: `2026-11-28`.
    Date,
    /// The rest of the key: one or more bytes, colons too.
    Path,
}

impl PlaceholderKind {
    /// As it is written behind the placeholder's name; nothing for the plain kind.
    #[must_use]
    pub const fn written(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::Int => ":int",
            Self::Uuid => ":uuid",
            Self::Date => ":date",
            Self::Path => ":path",
        }
    }

    /// True when every value has one spelling that it accepts.
    #[must_use]
    pub const fn has_one_spelling(self) -> bool {
        matches!(self, Self::Int | Self::Uuid | Self::Date)
    }

    /// True when no text is a value of both kinds.
    pub(super) fn excludes(self, other: Self) -> bool {
        self != other && self.has_one_spelling() && other.has_one_spelling()
    }

    /// True when a key may have this text in the placeholder's place.
    pub(super) fn accepts(self, text: &[u8]) -> bool {
        match self {
            Self::Text | Self::Path => !text.is_empty(),
            Self::Int => parse_i64(text).is_some(),
            Self::Uuid => is_uuid(text),
            Self::Date => is_date(text),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    pub(super) name: String,
    pub(super) kind: PlaceholderKind,
}

impl Placeholder {
    /// What stands between braces, if that is a placeholder.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, kind) = match text.split_once(':') {
            None => (text, PlaceholderKind::Text),
            Some((name, "int")) => (name, PlaceholderKind::Int),
            Some((name, "uuid")) => (name, PlaceholderKind::Uuid),
            Some((name, "date")) => (name, PlaceholderKind::Date),
            Some((name, "path")) => (name, PlaceholderKind::Path),
            Some(_) => return None,
        };
        let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        let is_name = !name.is_empty() && name.chars().all(word);
        is_name.then(|| Self { name: name.to_owned(), kind })
    }

    pub(super) fn is_path(&self) -> bool {
        self.kind == PlaceholderKind::Path
    }

    /// True when a text that it accepts could have this piece in it.
    pub(super) fn could_hold(&self, piece: &str) -> bool {
        match self.kind {
            PlaceholderKind::Text => !piece.contains(':'),
            PlaceholderKind::Path => true,
            PlaceholderKind::Int | PlaceholderKind::Date => piece.bytes().all(|b| b == b'-' || b.is_ascii_digit()),
            PlaceholderKind::Uuid => piece.bytes().all(|b| b == b'-' || is_small_hex(b)),
        }
    }
}

const fn is_small_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// 8-4-4-4-12 digits, as every database writes it.
fn is_uuid(text: &[u8]) -> bool {
    let is_right = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => is_small_hex(*byte),
    };
    text.len() == 36 && text.iter().enumerate().all(is_right)
}

/// Year, month and day, as ISO 8601 has them.
fn is_date(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| day_number(text).is_some())
}

/// The days from 2000-01-01 to a date that is written like `2026-11-28`; `None` of any other text.
#[must_use]
pub fn day_number(text: &str) -> Option<i32> {
    let is_form = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !is_form {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i32>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let is_day = year > 0 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    let in_year: i32 = (1..month).map(|earlier| days_of(year, earlier)).sum();
    is_day.then(|| before(year) + in_year + day - 1 - before(2000))
}

/// The days of the years before this one, since the year 1.
const fn before(year: i32) -> i32 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

const fn days_of(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::{PlaceholderKind, day_number};

    #[test]
    fn a_value_has_one_spelling() {
        const ID: &str = "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11";
        assert!(PlaceholderKind::Uuid.accepts(ID.as_bytes()));
        let others =
            [ID.to_uppercase(), format!("{{{ID}}}"), ID.replace('-', ""), ID.replace('-', ":"), ID[1..].into()];
        for other in others.iter().chain([&format!("urn:uuid:{ID}"), &ID.replacen('0', "g", 1), &String::new()]) {
            assert!(!PlaceholderKind::Uuid.accepts(other.as_bytes()), "{other}");
        }
        for (text, is_day) in [
            ("2026-11-28", true),
            ("2024-02-29", true),
            ("2000-02-29", true),
            ("0001-01-01", true),
            ("9999-12-31", true),
            ("2026-02-29", false),
            ("1900-02-29", false),
            ("2026-11-31", false),
            ("2026-13-01", false),
            ("2026-00-10", false),
            ("2026-10-00", false),
            ("0000-01-01", false),
            ("10000-01-01", false),
            ("2026-1-28", false),
            ("20261128", false),
            ("2026/11/28", false),
            ("2026-11-2\u{660}", false),
            ("infinity", false),
        ] {
            assert_eq!(PlaceholderKind::Date.accepts(text.as_bytes()), is_day, "{text}");
        }
    }

    #[test]
    fn days_are_counted_as_postgres_does() {
        for (text, days) in [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("2000-03-01", 60),
            ("1970-01-01", -10957),
            ("0001-01-01", -730_119),
            ("9999-12-31", 2_921_939),
            ("2026-11-28", 9828),
        ] {
            assert_eq!(day_number(text), Some(days), "{text}");
        }
    }
}

//! JSON as text: the order of objects and the digits of numbers are kept, and white space is removed.

use std::fmt;
use std::io::Read;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::row::{Cell, Row};

/// A JSON object's members in order, numbers and nested values as they were written.
pub(super) struct Members(pub(super) Row);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut row = Row::default();
        let add = |name, value: &RawValue| {
            row.0.push((name, cell(value.get())));
            Ok(())
        };
        deserializer.deserialize_map(Each { expected: "a JSON object", take: add })?;
        Ok(Self(row))
    }
}

/// Takes one value of a large document, still as text.
pub(super) type Take<'a> = &'a mut dyn FnMut(String, &RawValue) -> Result<(), String>;

/// Gives each member of the object that is read to `take`, with its name, or each element of the array: never more than
/// one of them is in memory.
pub(super) fn each(document: impl Read, take: Take<'_>) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_reader(document);
    let walked = deserializer.deserialize_any(Each { expected: "a JSON object or array", take });
    walked.and_then(|()| deserializer.end()).map_err(|error| error.to_string())
}

/// Gives away what an object or array holds, one by one.
struct Each<F> {
    expected: &'static str,
    take: F,
}

impl<'de, F: FnMut(String, &RawValue) -> Result<(), String>> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value::<Box<RawValue>>()?;
            (self.take)(name, &value).map_err(A::Error::custom)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<Box<RawValue>>()? {
            (self.take)(String::new(), &element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The cell of one JSON value: a string is text, null is nothing, everything else stays JSON.
pub(super) fn cell(json: &str) -> Cell {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map_or_else(|_| Cell::Json(json.to_owned()), Cell::Text),
        Some(b'n') => Cell::Null,
        _ => Cell::Json(compact(json)),
    }
}

/// The same JSON without white space outside strings.
pub(super) fn compact(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            let keep = inside || !c.is_ascii_whitespace();
            if inside {
                inside = escaped || *c != '"';
                escaped = !escaped && *c == '\\';
            } else {
                inside = *c == '"';
            }
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Members, compact};
    use crate::store::row::Cell;

    #[test]
    fn keeps_order_numbers_and_spaces_in_strings() {
        let text = r#"{"b": 1.10, "a": "x y", "n": null, "o": { "k" : [1, 2] , "s": "a \" b" }, "t": true}"#;
        let Members(row) = serde_json::from_str(text).expect("an object");
        let json = |s: &str| Cell::Json(s.into());
        assert_eq!(
            row.0,
            [
                ("b".into(), json("1.10")),
                ("a".into(), Cell::Text("x y".into())),
                ("n".into(), Cell::Null),
                ("o".into(), json(r#"{"k":[1,2],"s":"a \" b"}"#)),
                ("t".into(), json("true")),
            ]
        );
        assert_eq!(compact(r#"["\\", " " , 1]"#), r#"["\\"," ",1]"#);
    }
}

//! JSON as text: objects with their order and numbers kept exactly, and white space taken out.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::row::{Cell, Row};

/// A JSON object's members in order, numbers and nested values as they were written.
pub(super) struct Members(pub(super) Row);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut row = Row::default();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value::<Box<RawValue>>()?;
                    row.0.push((name, cell(value.get())));
                }
                Ok(row)
            }
        }
        deserializer.deserialize_map(InOrder).map(Self)
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

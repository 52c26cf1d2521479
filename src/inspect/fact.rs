//! A fact in the form in which it is shown: as a reply, or as text. The names in it are those of its JSON, in the order
//! of its fields.

use std::fmt::Write as _;

use bytes::BytesMut;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::resp::{Proto, encode};

/// A tree of names and values.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the kinds of JSON")]
pub enum Fact {
    Nothing,
    Truth(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// How far a name of a text stands from its value.
const INDENT: usize = 2;

/// A list of maps is a table where a line of it is no wider, or where so many one below the other would not be read.
const WIDEST: usize = 120;
const MANY: usize = 20;

impl Fact {
    /// The fact of a value.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        serde_json::to_string(value).ok().and_then(|json| Self::read(&json)).unwrap_or(Self::Nothing)
    }

    /// What stands in JSON.
    #[must_use]
    pub fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// As a reply: a map is one in RESP3, and names and values in turn in RESP2, as in Redis's own replies of that kind
    /// (MEMORY STATS, XINFO STREAM).
    pub fn reply(&self, proto: Proto, out: &mut BytesMut) {
        match self {
            Self::Nothing => encode::null(out, proto),
            Self::Truth(truth) => encode::int(out, i64::from(*truth)),
            Self::Int(number) => encode::int(out, *number),
            Self::Float(number) => encode::bulk(out, number.to_string().as_bytes()),
            Self::Text(text) => encode::bulk(out, text.as_bytes()),
            Self::List(facts) => {
                encode::array(out, facts.len());
                facts.iter().for_each(|fact| fact.reply(proto, out));
            }
            Self::Map(pairs) => {
                encode::map(out, proto, pairs.len());
                for (name, fact) in pairs {
                    encode::bulk(out, name.as_bytes());
                    fact.reply(proto, out);
                }
            }
        }
    }

    /// As lines to be read.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(0, &mut out);
        if out.is_empty() { "none\n".to_owned() } else { out }
    }

    /// On one line, unless it has parts.
    fn word(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("-".to_owned()),
            Self::Truth(truth) => Some(if *truth { "yes" } else { "no" }.to_owned()),
            Self::Int(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()),
            Self::List(facts) if facts.is_empty() => Some("none".to_owned()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    fn write(&self, depth: usize, out: &mut String) {
        let margin = " ".repeat(depth * INDENT);
        match self {
            Self::Map(pairs) => pairs.iter().for_each(|(name, fact)| match fact.word() {
                Some(word) => _ = writeln!(out, "{margin}{}: {word}", name.replace('_', " ")),
                None => {
                    let _ = writeln!(out, "{margin}{}:", name.replace('_', " "));
                    fact.write(depth + 1, out);
                }
            }),
            Self::List(facts) => match table(facts) {
                Some(lines) => lines.iter().for_each(|line| _ = writeln!(out, "{margin}{line}")),
                None => {
                    for (at, fact) in facts.iter().enumerate() {
                        if at > 0 && matches!(fact, Self::Map(_)) {
                            out.push('\n');
                        }
                        fact.write(depth, out);
                    }
                }
            },
            single => _ = writeln!(out, "{margin}{}", single.word().unwrap_or_default()),
        }
    }
}

/// Maps with the same names and short values as lines of a table, the names first.
fn table(facts: &[Fact]) -> Option<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for fact in facts {
        let Fact::Map(pairs) = fact else { return None };
        if rows.is_empty() {
            rows.push(pairs.iter().map(|(name, _)| name.replace('_', " ")).collect());
        }
        let row: Vec<String> = pairs.iter().map(|(_, fact)| fact.word()).collect::<Option<_>>()?;
        if row.len() != rows[0].len() {
            return None;
        }
        rows.push(row);
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first()?.len()).map(width).collect();
    if facts.len() < MANY && widths.iter().map(|width| width + INDENT).sum::<usize>() > WIDEST {
        return None;
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    Some(rows.iter().map(line).collect())
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Fact;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Fact, E> {
        Ok(Fact::Nothing)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Fact, E> {
        Ok(Fact::Truth(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Fact, E> {
        Ok(Fact::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Fact, E> {
        Ok(Fact::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Fact, E> {
        Ok(Fact::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Fact, E> {
        Ok(Fact::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Fact, A::Error> {
        let mut facts = Vec::new();
        while let Some(fact) = items.next_element()? {
            facts.push(fact);
        }
        Ok(Fact::List(facts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Fact, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = items.next_entry()? {
            pairs.push(pair);
        }
        Ok(Fact::Map(pairs))
    }
}

impl<'de> Deserialize<'de> for Fact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::Fact;
    use crate::resp::Proto;

    const JSON: &str = r#"{"z":1,"name":"two\nlines","parts":[{"key":"a","count_of":12},{"key":"bcd","count_of":3}],
        "none":[],"deep":{"ratio":0.5,"is_up":true,"why":null}}"#;

    #[test]
    fn names_stay_in_their_order_and_maps_are_those_of_the_protocol() {
        let fact = Fact::read(r#"{"b":[1,null],"a":{"x":true,"y":-0.5}}"#).expect("a fact");
        let reply = |proto| {
            let mut out = BytesMut::new();
            fact.reply(proto, &mut out);
            String::from_utf8(out.to_vec()).expect("text").replace("\r\n", " ")
        };
        assert_eq!(reply(Proto::Resp2), "*4 $1 b *2 :1 $-1 $1 a *4 $1 x :1 $1 y $4 -0.5 ");
        assert_eq!(reply(Proto::Resp3), "%2 $1 b *2 :1 _ $1 a %2 $1 x :1 $1 y $4 -0.5 ");
    }

    #[test]
    fn a_text_is_read_line_by_line() {
        let text = Fact::read(JSON).expect("a fact").text();
        let expected = "z: 1\nname: two lines\nparts:\n  key  count of\n  a    12\n  bcd  3\nnone: none\ndeep:\n  \
            ratio: 0.5\n  is up: yes\n  why: -\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_too_wide_for_a_table_is_written_one_below_the_other() {
        let long = "x".repeat(120);
        let text = Fact::read(&format!(r#"[{{"a":"{long}"}},{{"a":"b"}}]"#)).expect("a fact").text();
        assert_eq!(text, format!("a: {long}\n\na: b\n"));
        let many = vec![format!(r#"{{"a":"{long}","b":1}}"#); 20].join(",");
        let text = Fact::read(&format!("[{many}]")).expect("a fact").text();
        assert_eq!(text.lines().count(), 21, "a line for each");
    }
}

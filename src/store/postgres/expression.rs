//! What becomes of a column, as SQL expressions: arithmetic is the database's, values are parameters.

use super::zone::held;
use crate::record::{Change, Condition};
use crate::store::StoreError;
use crate::store::target::{Column, Holds, text};

/// Says whose write a statement is, to the triggers: `$1`. The statement must select from `origin`.
pub(super) const ORIGIN: &str = "origin AS MATERIALIZED (SELECT set_config('hearthside.origin', $1, true))";

/// Numbers the parameters behind the origin and the holes.
pub(super) struct Values {
    pub(super) before: usize,
    pub(super) list: Vec<String>,
}

impl Values {
    /// The place of one more text parameter.
    pub(super) fn add(&mut self, value: &str) -> String {
        self.list.push(value.to_owned());
        format!("${}::text", self.before + self.list.len())
    }
}

/// A JSON object of names and values, which are expressions of text.
pub(super) fn object(members: &[(String, String)]) -> String {
    let (names, values): (Vec<&str>, Vec<&str>) = members.iter().map(|(n, v)| (n.as_str(), v.as_str())).unzip();
    format!("jsonb_object(ARRAY[{}]::text[], ARRAY[{}]::text[])", names.join(", "), values.join(", "))
}

pub(super) fn guard(condition: Condition, now: &str) -> Option<String> {
    match condition {
        Condition::FieldAbsent => Some(format!("{now} IS NULL")),
        Condition::FieldPresent => Some(format!("{now} IS NOT NULL")),
        Condition::Always | Condition::RowExists => None,
    }
}

/// What a column becomes in a row that is there, and in a new one; `None`: the new one has no value.
pub(super) struct Becomes {
    pub(super) updated: String,
    pub(super) inserted: Option<String>,
}

/// A text as a value of the column.
pub(super) fn cast(column: &Column, text: &str) -> String {
    match column.holds {
        Holds::Epochs => held(&format!("to_timestamp(CAST({text} AS float8))"), column.zone.as_deref()),
        _ => format!("CAST({text} AS {})", column.cast),
    }
}

const IS_INTEGER: &str = "~ '^(0|-?[1-9][0-9]{0,18})$'";
const IS_NUMBER: &str = "~ '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?$'";

/// # Errors
/// [`StoreError::Field`] for a value the column cannot have.
pub(super) fn becomes(
    column: &Column,
    field: &str,
    now: &str,
    change: &Change,
    values: &mut Values,
    guards: &mut Vec<String>,
) -> Result<Becomes, StoreError> {
    let both = |expression: String| Becomes { updated: expression.clone(), inserted: Some(expression) };
    Ok(match change {
        Change::Clear => Becomes { updated: "NULL".into(), inserted: None },
        Change::Put(value) => both(cast(column, &values.add(text(value, field)?))),
        Change::Append(more) => {
            let more = values.add(text(more, field)?);
            Becomes {
                updated: cast(column, &format!("(coalesce({now}::text, '') || {more})")),
                inserted: Some(cast(column, &more)),
            }
        }
        Change::Add(by) => {
            let by = values.add(&by.to_string());
            let sum = match column.holds {
                Holds::Integers => format!("coalesce({now}, 0) + {by}::int8"),
                Holds::Numbers => {
                    guards.push(format!("{now} IS NULL OR {now}::numeric = trunc({now}::numeric)"));
                    format!("coalesce({now}, 0) + {by}::int8")
                }
                Holds::Texts => {
                    guards.push(format!("{now} IS NULL OR {now}::text {IS_INTEGER}"));
                    cast(column, &format!("(coalesce({now}::text, '0')::int8 + {by}::int8)::text"))
                }
                _ => return Err(column.refuses(field)),
            };
            Becomes { updated: sum, inserted: Some(cast(column, &by)) }
        }
        Change::AddFloat(by) => {
            let by = values.add(by.text());
            let sum = match column.holds {
                // Rounding would answer something else than was asked for.
                Holds::Integers if by_fraction(values) => return Err(column.refuses(field)),
                Holds::Integers | Holds::Numbers => format!("coalesce({now}, 0) + CAST({by} AS numeric)"),
                Holds::Texts => {
                    guards.push(format!("{now} IS NULL OR {now}::text {IS_NUMBER}"));
                    cast(column, &sum_text(&format!("coalesce({now}::text, '0')::numeric + {by}::numeric")))
                }
                _ => return Err(column.refuses(field)),
            };
            let first = match column.holds {
                Holds::Texts => cast(column, &sum_text(&format!("{by}::numeric"))),
                _ => format!("CAST({by} AS numeric)"),
            };
            Becomes { updated: sum, inserted: Some(first) }
        }
    })
}

/// A decimal as Redis writes one: at most 17 digits behind the point, none of them a needless zero.
fn sum_text(number: &str) -> String {
    format!("trim_scale(round({number}, 17))::text")
}

/// True when the number added last has a fraction.
fn by_fraction(values: &Values) -> bool {
    values.list.last().and_then(|text| text.parse::<f64>().ok()).is_none_or(|number| number.fract() != 0.0)
}

//! How a mapping's record is made of a row of the server's log, where it is certain that a load would make the same of
//! the row: one row a key, whose columns have types of which the text in the log says what JSON would show. Pure.

use super::catalog::relation::{Column, Holds, Relation};
use super::catalog::requirements::shows;
use super::json::cell;
use super::logged::{LoggedRow, LoggedValue, RowChange};
use super::plan::Plan;
use super::row::{Cell, Row};
use crate::config::Shape;
use crate::mapping::Mapping;
use crate::record::Record;

/// Types of keys whose values have one text, which is the one in the log.
const OF_KEYS: [&str; 6] = ["int2", "int4", "int8", "text", "varchar", "uuid"];

/// Types that JSON shows as the text that the log has. A list, because the text of others may depend on settings, or be
/// shown otherwise.
const AS_TEXT: [&str; 17] = [
    "text", "varchar", "bpchar", "name", "citext", "uuid", "date", "time", "timetz", "interval", "bytea", "inet",
    "cidr", "macaddr", "macaddr8", "bit", "varbit",
];

/// What a column's text in the log becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// `t` is `true`.
    Boolean,
    Json,
    /// A `T` stands between date and time.
    Moment,
    /// The same; and the zone, which is UTC, has minutes.
    MomentInUtc,
}

/// A column by name and type, and what becomes of it.
#[derive(Clone, Debug)]
struct Part {
    name: String,
    kind: String,
    form: Form,
}

/// How the record is made.
#[derive(Clone, Debug)]
pub(super) struct LogForm {
    keys: Vec<Part>,
    /// What is shown, in the order of the table.
    shown: Vec<Part>,
}

impl LogForm {
    /// None where the record cannot be made, or not with certainty. `relation` is the mapping's table, of which each
    /// key has one row.
    pub(super) fn of(mapping: &Mapping, relation: &Relation) -> Option<Self> {
        let block = &mapping.config;
        let is_one = matches!(block.shape, Shape::Hash | Shape::String);
        if !is_one || block.expires_column.is_some() || relation.has_policies {
            return None;
        }
        let names = mapping.columns(&block.key_columns);
        let key = |name: &String| {
            relation
                .column(name)
                .filter(|column| OF_KEYS.contains(&column.kind()))
                .map(|column| part(column, Form::Text))
        };
        let shown = relation.columns.iter().filter(|column| shows(block, &names, &column.name));
        Some(Self {
            keys: names.iter().map(key).collect::<Option<_>>()?,
            shown: shown.map(|column| Some(part(column, form(column)?))).collect::<Option<_>>()?,
        })
    }

    /// The row of a load of `key`; none where that is not certain.
    fn row(&self, mapping: &Mapping, key: &[u8], row: &LoggedRow) -> Option<Row> {
        let captured = mapping.pattern.captures(key)?;
        let is_own = |(part, text): (&Part, &&[u8])| row.get(&part.name, &part.kind) == Some(LoggedValue::Text(text));
        if captured.len() != self.keys.len() || !self.keys.iter().zip(&captured).all(is_own) {
            return None;
        }
        let cell = |part: &Part| Some((part.name.clone(), part.cell(row.get(&part.name, &part.kind)?)?));
        self.shown.iter().map(cell).collect::<Option<_>>().map(Row)
    }
}

fn part(column: &Column, form: Form) -> Part {
    Part { name: column.name.clone(), kind: column.kind().to_owned(), form }
}

fn form(column: &Column) -> Option<Form> {
    match column.holds {
        Holds::Integers | Holds::Numbers => Some(Form::Text),
        Holds::Booleans => Some(Form::Boolean),
        Holds::Json => Some(Form::Json),
        Holds::Times if column.kind() == "timestamptz" => Some(Form::MomentInUtc),
        Holds::Times => Some(Form::Moment),
        Holds::Texts if column.is_enum || AS_TEXT.contains(&column.kind()) => Some(Form::Text),
        Holds::Texts | Holds::Structures | Holds::Epochs | Holds::Foreign => None,
    }
}

impl Part {
    fn cell(&self, value: LoggedValue<'_>) -> Option<Cell> {
        let text = match value {
            LoggedValue::Null => return Some(Cell::Null),
            LoggedValue::Unsent => return None,
            LoggedValue::Text(text) => std::str::from_utf8(text).ok()?,
        };
        Some(match self.form {
            Form::Text => Cell::Text(text.to_owned()),
            Form::Boolean => Cell::Json(if text == "t" { "true" } else { "false" }.to_owned()),
            Form::Json => {
                // What a load could not read is no record.
                let json: &serde_json::value::RawValue = serde_json::from_str(text).ok()?;
                cell(json.get())
            }
            Form::Moment => Cell::Text(text.replacen(' ', "T", 1)),
            Form::MomentInUtc => Cell::Text(in_utc(text)?),
        })
    }
}

/// `2026-01-31 10:00:00+00` as JSON has it.
fn in_utc(text: &str) -> Option<String> {
    if text.ends_with("infinity") {
        return Some(text.to_owned());
    }
    let (text, era) = text.strip_suffix(" BC").map_or((text, ""), |text| (text, " BC"));
    let moment = text.strip_suffix("+00")?;
    Some(format!("{}+00:00{era}", moment.replacen(' ', "T", 1)))
}

impl Plan {
    /// The record that a change left behind its key; none where it is not certain that a load would give the same.
    #[must_use]
    pub fn left_by(&self, change: &RowChange) -> Option<Option<Record>> {
        let form = self.log_form.as_ref()?;
        if self.mapping.config.table.as_deref() != Some(&*change.left.table) {
            return None;
        }
        let Some(row) = &change.left.row else { return Some(None) };
        // A column that the plan does not know is shown by one that is to be made.
        if !row.names().all(|name| self.column_names.iter().any(|known| known == name)) {
            return None;
        }
        let row = form.row(&self.mapping, &change.key, row)?;
        self.shape(&[row]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::in_utc;

    #[test]
    fn a_moment_in_utc_is_written_as_json_has_it() {
        for (logged, shown) in [
            ("2026-01-31 10:00:00+00", Some("2026-01-31T10:00:00+00:00")),
            ("2026-01-31 10:00:00.125+00", Some("2026-01-31T10:00:00.125+00:00")),
            ("0044-03-15 10:00:00+00 BC", Some("0044-03-15T10:00:00+00:00 BC")),
            ("-infinity", Some("-infinity")),
            ("2026-01-31 10:00:00+01", None),
        ] {
            assert_eq!(in_utc(logged).as_deref(), shown);
        }
    }
}

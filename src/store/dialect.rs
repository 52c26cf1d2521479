//! The SQL that the two engines spell differently, side by side: one function for each expression or clause. Knows
//! columns, never mappings; sends nothing.

use super::catalog::described::Param;
use super::catalog::relation::{Column, Holds, quote};
use super::words::with_parameters;

/// An engine's SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// The name under which the milliseconds until a row expires are selected.
pub(super) const LEFT: &str = "hearthside:left";

/// What SQLite selects a column of JSON as: its rows do not say that a text is JSON.
pub(super) const JSON: &str = "hearthside:json:";

/// For so long a statement of Postgres goes on to the next of its keys, and as long as it has no more bytes of rows.
const WHILE: &str = "250 ms";
const MOST_BYTES: usize = 4 << 20;

impl Dialect {
    /// Changes are announced by triggers, which need to know the columns of the watched tables.
    pub(super) const fn has_triggers(self) -> bool {
        matches!(self, Self::Postgres)
    }

    /// A column holds values of its own type only.
    pub(super) const fn has_strict_types(self) -> bool {
        matches!(self, Self::Postgres)
    }

    /// A column as text.
    pub(super) fn text(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("{column}::text"),
            Self::Sqlite => format!("CAST({column} AS TEXT)"),
        }
    }

    /// A SELECT whose rows the driver can read. In Postgres each is one JSON text: every type has one, whatever the
    /// driver knows. A comment at the end of the SELECT ends with its line.
    pub(super) fn readable(self, select: &str) -> String {
        let end = if select.contains("--") { "\n" } else { "" };
        match self {
            Self::Postgres => {
                format!("SELECT row_to_json(hearthside_row.*)::text FROM ({select}{end}) AS hearthside_row")
            }
            Self::Sqlite => select.to_owned(),
        }
    }

    /// For each of several keys the rows that a SELECT of one has for it, in the order of the keys: what a parameter is
    /// to that, an array is to this. Those that it has not come to after a while, or after many bytes, are NULL, but
    /// never the first. SQLite has no arrays.
    pub(super) fn for_each(self, one: &str, params: &[Param]) -> Option<String> {
        if self == Self::Sqlite {
            return None;
        }
        let numbers = 1..=params.len();
        let arrays = numbers.clone().zip(params).map(|(number, param)| format!("${number}::{}[]", bound_type(param)));
        let names = numbers.map(|number| format!("key_{number}"));
        let (arrays, names) = (arrays.collect::<Vec<_>>().join(", "), names.collect::<Vec<_>>().join(", "));
        let rows = with_parameters(one, |number| format!("hearthside_wanted.key_{number}"));
        Some(format!(
            "WITH hearthside_begun AS MATERIALIZED (SELECT clock_timestamp() AS at), hearthside_read AS MATERIALIZED \
             (SELECT number, CASE WHEN clock_timestamp() < (SELECT at FROM hearthside_begun) + interval '{WHILE}' \
             OR number = 1 THEN ARRAY({rows}) END AS rows FROM unnest({arrays}) WITH ORDINALITY AS \
             hearthside_wanted ({names}, number)) SELECT CASE WHEN number = 1 OR sum(pg_column_size(rows)) OVER \
             (ORDER BY number) <= {MOST_BYTES} THEN rows END FROM hearthside_read ORDER BY number"
        ))
    }

    /// A column as a SELECT of records names it.
    pub(super) fn shown(self, column: &Column) -> String {
        let name = column.quoted();
        match (self, column.holds) {
            (Self::Postgres, Holds::Epochs) => {
                format!("trim_scale(extract(epoch FROM {})::numeric) AS {name}", moment_of(column))
            }
            (Self::Postgres, Holds::Foreign) => format!("{name}::text AS {name}"),
            (Self::Postgres, _) => name,
            (Self::Sqlite, Holds::Json) => format!("{name} AS {}", quote(&format!("{JSON}{}", column.name))),
            (Self::Sqlite, Holds::Times) => format!("strftime('%Y-%m-%dT%H:%M:%S+00:00', {name}) AS {name}"),
            // Whole seconds as an integer, a fraction only where there is one.
            (Self::Sqlite, Holds::Epochs) => format!(
                "CASE WHEN unixepoch({name}, 'subsec') = unixepoch({name}) THEN unixepoch({name}) \
                 ELSE unixepoch({name}, 'subsec') END AS {name}"
            ),
            (Self::Sqlite, _) => name,
        }
    }

    /// The milliseconds until a row expires, by the column that says when it does.
    pub(super) fn left(self, column: &Column) -> String {
        let (ends, left) = (moment_of(column), quote(LEFT));
        match self {
            Self::Postgres => {
                // Infinity, as NULL, is no end; minus infinity has passed.
                format!(
                    "CASE WHEN isfinite({ends}) \
                     THEN ceil(extract(epoch FROM ({ends}::timestamptz - clock_timestamp())) * 1000)::bigint \
                     WHEN {ends} < clock_timestamp() THEN 0 END AS {left}"
                )
            }
            Self::Sqlite => format!(
                "CAST(round((unixepoch({ends}, 'subsec') - unixepoch('now', 'subsec')) * 1000) AS INTEGER) AS {left}"
            ),
        }
    }

    /// A key's column, as it is compared with a value of its key.
    pub(super) fn compared(self, column: &str, param: &Param) -> String {
        match (self, param) {
            (Self::Postgres, Param::Cast { column: Some(kind), .. }) => format!("CAST({column} AS {kind})"),
            _ => column.to_owned(),
        }
    }

    /// True of a row that has not expired, by the column that says when it does: `column` is its name, `ends` the time.
    pub(super) fn is_alive(self, column: &str, ends: &str) -> String {
        match self {
            Self::Postgres => format!("({column} IS NULL OR {ends} > clock_timestamp())"),
            Self::Sqlite => {
                format!("({column} IS NULL OR unixepoch({ends}, 'subsec') > unixepoch('now', 'subsec'))")
            }
        }
    }

    /// True of a row whose overflow column has members.
    pub(super) fn has_members(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("coalesce({column}::jsonb, '{{}}'::jsonb) <> '{{}}'::jsonb"),
            Self::Sqlite => format!("coalesce({column}, '{{}}') <> '{{}}'"),
        }
    }

    /// Parameter `number`, a text, as a value of a key's column of this type. SQLite compares what was bound.
    pub(super) fn key(self, number: usize, kind: &str) -> String {
        match self {
            Self::Postgres => format!("CAST(${number}::text AS {kind})"),
            Self::Sqlite => format!("?{number}"),
        }
    }

    /// Parameter `number`, bound like that, as a value of a key's column. An index on the column serves the comparison.
    pub(super) fn bound(self, number: usize, param: &Param) -> String {
        match (self, param) {
            (Self::Postgres, Param::Cast { to, .. }) => self.key(number, to),
            _ => format!("${number}"),
        }
    }

    /// A text, which is an expression, as a value of a column.
    pub(super) fn value(self, column: &Column, text: &str) -> String {
        match (self, column.holds) {
            (Self::Postgres, Holds::Epochs) => {
                held(&format!("to_timestamp(CAST({text} AS float8))"), column.zone.as_deref())
            }
            (Self::Postgres, Holds::Structures) => structure(column, text),
            (Self::Postgres, _) => format!("CAST({text} AS {})", column.cast),
            (Self::Sqlite, Holds::Epochs) => {
                format!("strftime('%Y-%m-%d %H:%M:%f', CAST({text} AS REAL), 'unixepoch')")
            }
            (Self::Sqlite, _) => text.to_owned(),
        }
    }
}

/// The type as which a key's text is bound in Postgres.
const fn bound_type(param: &Param) -> &'static str {
    match param {
        Param::Int(2) => "int2",
        Param::Int(4) => "int4",
        Param::Int(_) => "int8",
        Param::Text | Param::Cast { .. } => "text",
        Param::Uuid => "uuid",
        Param::Date => "date",
    }
}

/// A text as an array or a composite value of Postgres: JSON is what is shown, and the type's own form is taken too,
/// which is no JSON of that kind.
fn structure(column: &Column, text: &str) -> String {
    let begin = if column.kind().starts_with('_') { "[" } else { "{" };
    format!(
        "(SELECT v FROM jsonb_to_record(jsonb_build_object('v', CASE WHEN {text} ~ '^\\s*[{begin}]' \
         THEN CAST({text} AS jsonb) ELSE to_jsonb({text}) END)) AS r (v {}))",
        column.cast
    )
}

/// The point in time that a column means, by its name.
pub(super) fn moment_of(column: &Column) -> String {
    moment(&column.quoted(), column.zone.as_deref())
}

/// The point in time that a column means, as an expression; `zone` is given for a column of Postgres without one.
pub(super) fn moment(column: &str, zone: Option<&str>) -> String {
    match zone {
        Some(zone) => format!("({column} AT TIME ZONE {})", literal(zone)),
        None => column.to_owned(),
    }
}

/// What a column of Postgres holds for a moment, which is an expression of type `timestamptz`: the same conversion the
/// other way.
pub(super) fn held(moment: &str, zone: Option<&str>) -> String {
    match zone {
        Some(zone) => format!("(({moment}) AT TIME ZONE {})", literal(zone)),
        None => moment.to_owned(),
    }
}

/// A text as a constant of SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, held, moment};
    use crate::store::catalog::described::Param;

    #[test]
    fn a_comment_at_the_end_of_a_query_hides_nothing_of_a_statement() {
        let one = Dialect::Postgres.readable("SELECT v FROM t WHERE id = $1 -- one");
        assert!(one.ends_with("-- one\n) AS hearthside_row"), "{one}");
        let several = Dialect::Postgres.for_each(&one, &[Param::Text]).expect("Postgres has arrays");
        assert!(several.contains("-- one\n) AS hearthside_row)"), "{several}");
    }

    #[test]
    fn a_column_with_a_zone_is_taken_as_it_is() {
        assert_eq!((moment("t.x", None), held("now()", None)), ("t.x".into(), "now()".into()));
        assert_eq!(moment("t.x", Some("a'b")), "(t.x AT TIME ZONE 'a''b')");
        assert_eq!(held("now() + x", Some("UTC")), "((now() + x) AT TIME ZONE 'UTC')");
    }
}

//! The function that the triggers of one table call. Its SQL is static: it is parsed once for each session. Pure.
//!
//! It has a short way for statements that change one row (`single`), which writers mostly do, and a long one for all
//! else. The short way's query must find one row (STRICT), which costs less than to count them; the long way begins
//! with the error that there are more. Settings of the function itself would cost each call more than all that the
//! short way does, so the long way fixes them where it begins, and takes them back by ending its block with an error.
//!
//! What it tells of an UPDATE are the keys whose rows, as far as the mapping shows them, are not the same before and
//! after, each counted as often as it occurs. Rows are compared as text, since not every type has an equality (json,
//! point), and by bytes, whatever the collation.
//!
//! A listener is sent UTF-8. In a database of another encoding a key may have no form in UTF-8; a notice with it would
//! end every listening session, so that its mapping is told as a whole.

use super::interest::{Interest, KeyParts, TableInterests, digest};
use super::means::Means;
use super::single::single;
use super::telling::{tell_all, tell_by_slot};
use crate::store::catalog::relation::quote;
use crate::telemetry::planted::is_planted;

/// A statement that touches more keys is told as the whole mapping.
const MOST_KEYS: usize = 1000;

/// A NOTIFY payload holds less than 8000 bytes.
/// Source: <https://www.postgresql.org/docs/current/sql-notify.html>
pub(super) const MOST_BYTES: usize = 7000;

/// A function, with the name that its text gives it.
pub(super) struct Function {
    /// Without the schema.
    pub(super) name: String,
    body: String,
}

impl Function {
    pub(super) fn of(table: &TableInterests, means: Means) -> Self {
        let body = body(table, means);
        Self { name: format!("changed_{}", digest(&body)), body }
    }

    /// The statement that makes it.
    pub(super) fn sql(&self) -> String {
        let Self { name, body } = self;
        let tag = tag(body);
        format!(
            "CREATE OR REPLACE FUNCTION hearthside.{name}() RETURNS trigger\n\
             LANGUAGE plpgsql\n\
             AS {tag}{body}{tag};\n"
        )
    }
}

/// A dollar quote that the text does not hold.
fn tag(body: &str) -> String {
    let tags = std::iter::once("$hearthside$".to_owned()).chain((1..).map(|i| format!("$hearthside{i}$")));
    tags.into_iter().find(|tag| !body.contains(tag.as_str())).unwrap_or_default()
}

fn body(table: &TableInterests, means: Means) -> String {
    let TableInterests { table: name, interests } = table;
    let patterns: Vec<String> =
        interests.iter().map(|interest| format!("{}::pg_catalog.text", quoted(&interest.pattern))).collect();
    let tokens: String = interests.iter().map(|interest| format!("-- serves {}\n", interest.token(means))).collect();
    let patterns = patterns.join(", ");
    format!(
        "
#variable_conflict use_column
-- Of the table {}. Written by `hearthside triggers`: its name is a digest of this text.
{tokens}DECLARE
{}BEGIN
{}{}    RETURN NULL;
EXCEPTION
    WHEN no_data_found THEN
        RETURN NULL;
    WHEN too_many_rows THEN
{}        RETURN NULL;
    WHEN OTHERS THEN
{}        RETURN NULL;
END
",
        line(name),
        declared(means),
        short(table, means),
        ended(means),
        long(table, &patterns, means),
        trouble(&patterns, means),
    )
}

/// What the short way finds out.
fn declared(means: Means) -> &'static str {
    match means {
        Means::Notices => {
            "    rest pg_catalog.bool := true;       -- whether the short way has left something to tell\n"
        }
        Means::Outbox => {
            "    news pg_catalog.text := '';         -- what is to be told; empty: by the long way
    slot pg_catalog.int4;               -- the table that it belongs to; -1: nobody reads\n"
        }
    }
}

/// The end of the short way.
fn ended(means: Means) -> String {
    match means {
        Means::Notices => "    IF rest THEN
        RAISE too_many_rows;
    END IF;
"
        .to_owned(),
        Means::Outbox => format!(
            "    IF news OPERATOR(pg_catalog.=) '' THEN
        RAISE too_many_rows;
    END IF;
    IF news IS NOT NULL THEN
        {}    END IF;
",
            tell_by_slot()
        ),
    }
}

/// Whatever has gone wrong, the statement that fired this goes on. NOTIFY needs no right, as pg_notify does.
fn trouble(patterns: &str, means: Means) -> String {
    format!(
        "        DECLARE
            one pg_catalog.text;
        BEGIN
            FOREACH one IN ARRAY ARRAY[{patterns}] LOOP
                EXECUTE pg_catalog.format('NOTIFY {}, %L', pg_catalog.json_build_object(
                    'mapping', one, 'trouble', SQLSTATE)::pg_catalog.text);
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            RAISE LOG 'Hearthside cannot be told of a change: % (%)', SQLERRM, SQLSTATE;
        END;
",
        means.channel()
    )
}

/// The short way, where there is one.
fn short(table: &TableInterests, means: Means) -> String {
    let events = [("UPDATE", Event::Update), ("INSERT", Event::Insert), ("DELETE", Event::Delete)];
    let ways = events.into_iter().filter_map(|(name, event)| Some((name, single(table, event, means)?)));
    let ways: Vec<String> =
        ways.map(|(name, way)| format!("IF TG_OP OPERATOR(pg_catalog.=) '{name}' THEN\n{way}")).collect();
    if ways.is_empty() { String::new() } else { format!("    {}    END IF;\n", ways.join("    ELS")) }
}

/// The long way. The text of a key must not depend on the writer's session, and nothing of the session may change.
fn long(table: &TableInterests, patterns: &str, means: Means) -> String {
    let told = |event| table.interests.iter().map(|interest| told(interest, event)).collect::<String>();
    format!(
        "        DECLARE
            mappings CONSTANT pg_catalog.text[] := ARRAY[{patterns}];
            whole pg_catalog.text[] := '{{}}';  -- the mappings that are told as a whole
            keys pg_catalog.text[] := '{{}}';   -- the keys that are told, as JSON
            found pg_catalog.text[];
            longest pg_catalog.int4;
            one pg_catalog.text;
            batch pg_catalog.text := '';
            ending pg_catalog.text := ']}}';
        BEGIN
        BEGIN
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
            pg_catalog.set_config('DateStyle', 'ISO, MDY', true),
            pg_catalog.set_config('IntervalStyle', 'postgres', true),
            pg_catalog.set_config('TimeZone', 'UTC', true), pg_catalog.set_config('bytea_output', 'hex', true),
            pg_catalog.set_config('extra_float_digits', '1', true);
        IF TG_OP = 'UPDATE' THEN
{}        ELSIF TG_OP = 'INSERT' THEN
{}        ELSIF TG_OP = 'DELETE' THEN
{}        ELSE
            whole := mappings;
        END IF;
{}        -- This takes the settings back, and would take back notices as well: they are sent after it.
        RAISE EXCEPTION USING ERRCODE = '{TAKEN_BACK}';
        EXCEPTION WHEN SQLSTATE '{TAKEN_BACK}' THEN
            NULL;
        END;
{}        EXCEPTION WHEN OTHERS THEN
{}        END;
",
        told(Event::Update),
        told(Event::Insert),
        told(Event::Delete),
        batching(),
        tell_all(means),
        trouble(patterns, means),
    )
}

/// Of no class of errors that Postgres has.
const TAKEN_BACK: &str = "HS000";

/// Puts into `whole` the notices of mappings, and into `keys` those of keys, as many in one as it holds.
fn batching() -> String {
    format!(
        "        SELECT coalesce(array_agg(json_build_object('mapping', told)::text), '{{}}') INTO whole
            FROM unnest(whole) AS told;
        IF cardinality(keys) > 0 THEN
            -- Whose write this is, where a sidecar's write did it and no trigger of the table's owner.
            IF pg_trigger_depth() = 1 AND current_setting('hearthside.origin', true) <> '' THEN
                ending := '],\"from\":' || to_json(current_setting('hearthside.origin'))::text || '}}';
            END IF;
            found := keys;
            keys := '{{}}';
            FOREACH one IN ARRAY found LOOP
                IF batch <> '' AND octet_length(batch) + octet_length(one) > {MOST_BYTES} THEN
                    keys := keys || ('{{\"keys\":[' || batch || ending);
                    batch := '';
                END IF;
                batch := CASE batch WHEN '' THEN one ELSE batch || ',' || one END;
            END LOOP;
            keys := keys || ('{{\"keys\":[' || batch || ending);
        END IF;
"
    )
}

/// What changes rows.
#[derive(Clone, Copy)]
pub(super) enum Event {
    Insert,
    Update,
    Delete,
}

/// Finds what one mapping is to be told.
fn told(interest: &Interest, event: Event) -> String {
    let (pattern, counted) = (constant(&interest.pattern), row(interest.counted.as_deref()));
    let Some(key) = &interest.key else {
        let changed = changed("''", &counted, event);
        return format!(
            "            IF EXISTS ({changed}) THEN
                whole := whole || {pattern};
            END IF;
"
        );
    };
    format!(
        "            SELECT array_agg(told), max(octet_length(told)) INTO found, longest FROM (
                SELECT DISTINCT to_json(k)::text COLLATE \"C\" AS told FROM ({}) AS changed
                WHERE k IS NOT NULL LIMIT {}
            ) AS few;
            IF current_setting('server_encoding') <> 'UTF8' THEN
                BEGIN
                    PERFORM convert_to(told, 'UTF8') FROM unnest(found) AS told;
                EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
                    longest := {MOST_BYTES} + 1;
                END;
            END IF;
            IF cardinality(found) > {MOST_KEYS} OR longest > {MOST_BYTES} THEN
                whole := whole || {pattern};
            ELSE
                keys := keys || found;
            END IF;
",
        changed(&expression(key), &counted, event),
        MOST_KEYS + 1,
    )
}

/// Selects the keys `k` of the rows that are not what they were.
fn changed(key: &str, row: &str, event: Event) -> String {
    match event {
        Event::Insert => format!("SELECT {key} AS k FROM new_rows AS r"),
        Event::Delete => format!("SELECT {key} AS k FROM old_rows AS r"),
        Event::Update => {
            let differs = if is_planted("old-key-ignored") { "< 0" } else { "<> 0" };
            format!(
                "SELECT k FROM (
                SELECT {key} AS k, {row} AS v, 1 AS n FROM old_rows AS r UNION ALL
                SELECT {key}, {row}, -1 FROM new_rows AS r
            ) AS sides GROUP BY k, v HAVING sum(n) {differs}"
            )
        }
    }
}

/// The columns that count, as one text.
fn row(counted: Option<&[String]>) -> String {
    let columns = match counted {
        None => "r.*".to_owned(),
        Some(columns) => columns.iter().map(|column| format!("r.{}", quote(column))).collect::<Vec<_>>().join(", "),
    };
    format!("ROW({columns})::text COLLATE \"C\"")
}

fn expression(key: &KeyParts) -> String {
    let mut literals = key.literals.iter();
    let mut text = literals.next().map(|literal| constant(literal)).unwrap_or_default();
    for (column, literal) in key.columns.iter().zip(literals) {
        text.push_str(&format!(" || r.{}::text", quote(column)));
        if !literal.is_empty() {
            text.push_str(&format!(" || {}", constant(literal)));
        }
    }
    format!("({text}) COLLATE \"C\"")
}

/// A text as it may stand in a comment.
pub(super) fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A constant of type text, whatever the session takes backslashes for.
pub(in crate::store) fn constant(text: &str) -> String {
    format!("{}::text", quoted(text))
}

/// The same without its type.
pub(super) fn quoted(text: &str) -> String {
    let quoted = text.replace('\'', "''").replace('\\', "\\\\");
    if text.contains('\\') { format!("E'{quoted}'") } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::{Function, constant, tag};
    use crate::store::triggers::interest::{Interest, KeyParts, TableInterests};
    use crate::store::triggers::means::Means;

    #[test]
    fn texts_are_quoted_whatever_they_hold() {
        assert_eq!(constant("a'b"), "'a''b'::text");
        assert_eq!(constant("a\\'b"), "E'a\\\\''b'::text");
        assert_eq!(tag("plain"), "$hearthside$");
        assert_eq!(tag("$hearthside$ $hearthside1$"), "$hearthside2$");
    }

    #[test]
    fn names_of_columns_are_quoted_and_change_the_functions_name() {
        let table = |column: &str| TableInterests {
            table: "t".into(),
            interests: vec![Interest {
                pattern: "a:{x}".into(),
                key: Some(KeyParts { literals: vec!["a:".into(), String::new()], columns: vec![column.into()] }),
                counted: Some(vec!["two words".into()]),
                is_shown: false,
            }],
        };
        let function = Function::of(&table("Na\"me"), Means::Notices);
        let sql = function.sql();
        assert!(sql.contains("SELECT ('a:'::text || r.\"Na\"\"me\"::text) COLLATE \"C\" AS k, ROW(r.\"two words\")"));
        assert_ne!(function.name, Function::of(&table("Name"), Means::Notices).name);
        assert_ne!(function.name, Function::of(&table("Na\"me"), Means::Outbox).name);
    }
}

//! The Postgres triggers of a mapping: `hearthside triggers` prints or installs them.
//! A trigger's name holds a digest of its arguments, so that a changed pattern is seen as a missing trigger.

use std::fmt::Write;

use crate::mapping::Mapping;

/// One table's triggers for one mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableTriggers {
    pub(super) table: String,
    /// What every trigger's name begins with.
    pub(super) prefix: String,
    arguments: Vec<String>,
}

/// Event, name's end, and the transition tables that the event has.
const EVENTS: [(&str, &str, &str); 4] = [
    ("INSERT", "ins", " REFERENCING NEW TABLE AS new_rows"),
    ("UPDATE", "upd", " REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
    ("DELETE", "del", " REFERENCING OLD TABLE AS old_rows"),
    ("TRUNCATE", "trn", ""),
];

/// The triggers that `mapping` needs.
pub(super) fn of(mapping: &Mapping) -> Vec<TableTriggers> {
    mapping.watched().into_iter().map(|(table, columns)| table_triggers(mapping, table, columns)).collect()
}

fn table_triggers(mapping: &Mapping, table: String, columns: Option<Vec<String>>) -> TableTriggers {
    let mut arguments = vec![mapping.pattern.text().to_owned()];
    if let Some(columns) = columns {
        let (literals, _) = mapping.pattern.pieces();
        let mut literals = literals.into_iter();
        arguments.extend(literals.next());
        for (column, literal) in columns.into_iter().zip(literals) {
            arguments.extend([column, literal]);
        }
    }
    TableTriggers { prefix: format!("hearthside_{:08x}", fnv1a(&arguments.join("\0"))), table, arguments }
}

impl TableTriggers {
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        EVENTS.iter().map(|(_, end, _)| format!("{}_{end}", self.prefix))
    }

    fn sql(&self, out: &mut String) {
        let arguments: Vec<_> = self.arguments.iter().map(|a| format!("'{}'", a.replace('\'', "''"))).collect();
        for ((event, _, transition), name) in EVENTS.iter().zip(self.names()) {
            // Writing to a String cannot fail.
            let _ = write!(
                out,
                "DROP TRIGGER IF EXISTS {name} ON {table};\n\
                 CREATE TRIGGER {name} AFTER {event} ON {table}{transition}\n    \
                 FOR EACH STATEMENT EXECUTE FUNCTION hearthside.changed({});\n",
                arguments.join(", "),
                table = self.table,
            );
        }
    }
}

/// SQL that installs the triggers of every mapping, to be run as often as one likes.
#[must_use]
pub fn script<'m>(mappings: impl IntoIterator<Item = &'m Mapping>) -> String {
    let mut out =
        String::from("-- Change triggers for Hearthside; hearthside migrate installs the function they call.\n");
    for mapping in mappings {
        for triggers in of(mapping) {
            let _ = writeln!(out, "\n-- {}", mapping.pattern.text());
            triggers.sql(&mut out);
        }
    }
    out
}

/// FNV-1a, 32 bits: a stable digest for names. Source: <http://www.isthe.com/chongo/tech/comp/fnv/>
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

//! The SQL that makes the change triggers, to be run as often as one likes: what is printed is what is run. Pure.

use super::function::{Function, constant, line};
use super::interest::{TableInterests, by_table};
use crate::mapping::Mapping;

/// SQL that makes the triggers of every mapping.
#[must_use]
pub fn script<'m>(mappings: impl IntoIterator<Item = &'m Mapping>) -> String {
    let mut script = String::from(
        "-- Change triggers for Hearthside. `hearthside migrate` makes the function hearthside.attach(), which makes\n\
         -- the triggers that a table, its partitions and its inheritance children lack. To be run as often as one \
         likes.\n",
    );
    for table in by_table(mappings) {
        script.push_str(&format!("\n{}", of_table(&table)));
    }
    script
}

/// The part of one table: two statements.
pub(super) fn of_table(table: &TableInterests) -> String {
    let function = Function::of(table);
    let comments = table.interests.iter().map(|interest| format!("-- {}\n", line(&interest.pattern)));
    format!("{}{}{}", comments.collect::<String>(), function.sql(), attach(table, &function))
}

/// The statement that makes the triggers.
fn attach(table: &TableInterests, function: &Function) -> String {
    format!("SELECT * FROM hearthside.attach({}::regclass, '{}');\n", constant(&table.table), function.name)
}

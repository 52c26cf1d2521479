//! The SQL that makes the change triggers, to be run as often as one likes: what is printed is what is run. Pure.

use super::function::{Function, constant, line};
use super::interest::{TableInterests, by_table};
use super::means::Means;
use super::names::Names;
use super::outbox;
use crate::mapping::Mapping;

/// SQL that makes the triggers of every mapping, for sessions with any search path.
pub(super) fn script<'m>(mappings: impl IntoIterator<Item = &'m Mapping>, names: &Names, means: Means) -> String {
    let mut script = String::from(
        "-- Change triggers for Hearthside. `hearthside migrate` makes the function hearthside.attach(), which makes\n\
         -- the triggers that a table, its partitions and its inheritance children lack. To be run as often as one \
         likes.\n",
    );
    if means == Means::Outbox {
        script.push_str(outbox::MAKE);
    }
    script.push_str(&remark(names));
    for table in by_table(mappings) {
        let (name, remark) = named(&table, names);
        script.push_str(&format!("\n{remark}{}", of_table(&table, &name, means)));
    }
    script
}

/// What is not known of all names.
fn remark(names: &Names) -> String {
    let Names::Unasked(why) = names else { return String::new() };
    format!(
        "-- The database could not be asked what the names mean ({}): they stand here as in the\n\
         -- configuration. Run this with the search path of the role of store.url.\n",
        line(why)
    )
}

/// The name of a table in the script, and what is to be said of it.
fn named(table: &TableInterests, names: &Names) -> (String, String) {
    let configured = &table.table;
    match names {
        Names::Known(known) => match known.get(configured) {
            Some(full) => (full.clone(), String::new()),
            None => {
                let text = "yet: its name stands here as in the configuration.";
                (configured.clone(), format!("-- There is no table '{}' {text}\n", line(configured)))
            }
        },
        Names::Unasked(_) => (configured.clone(), String::new()),
    }
}

/// The part of one table, which has this name: two statements.
pub(super) fn of_table(table: &TableInterests, name: &str, means: Means) -> String {
    let function = Function::of(table, means);
    let comments = table.interests.iter().map(|interest| format!("-- {}\n", line(&interest.pattern)));
    let attach = format!("SELECT * FROM hearthside.attach({}::regclass, '{}');\n", constant(name), function.name);
    format!("{}{}{attach}", comments.collect::<String>(), function.sql())
}

//! What is known of tables and their columns, the same for both engines: `relation` is a table as an engine's catalog
//! says it is, `unique` its unique indexes, `described` a statement, `requirements` what a mapping asks of them, and
//! `target` where its writes go. Knows no engine; asks no database.

pub(super) mod described;
pub(super) mod relation;
pub(super) mod requirements;
pub(super) mod target;
pub(super) mod unique;

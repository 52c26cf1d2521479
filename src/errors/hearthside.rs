//! Errors of HEARTHSIDE, the sidecar's own command.

/// A subcommand that there is not, or that takes other arguments.
pub const UNKNOWN_SUBCOMMAND: &str =
    "ERR unknown HEARTHSIDE subcommand or wrong number of arguments. Try HEARTHSIDE HELP.";

/// PAUSE holds, and a command that was under way before it has not ended.
pub const NOT_QUIET: &str = "ERR hearthside: commands are held back, but some that were under way have not ended \
    within upstream.queue_timeout; ask again, or RESUME";

/// EXPLAIN with PLAN, and the store has none to show.
#[must_use]
pub fn no_plan(why: &str) -> String {
    format!("ERR hearthside: there is no plan of the store to show: {why}")
}

/// MODE with a word that is no mode, or no percentage.
pub const NO_MODE: &str =
    "ERR hearthside: HEARTHSIDE MODE <mapping or ALL> <off, shadow, fallback or on> [<percent from 0 to 100>]";

/// MODE of a mapping that is not configured.
#[must_use]
pub fn no_mapping(pattern: &str) -> String {
    format!("ERR hearthside: no mapping has the key pattern '{pattern}'; HEARTHSIDE MODE lists them")
}

/// MODE while the sidecar is ending.
pub const ENDING: &str = "ERR hearthside: the sidecar is ending, and modes are not changed any more";

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

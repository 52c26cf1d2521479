//! Suggests the command that a mistyped name probably means.

use super::table::all;
use crate::config::nearest;

/// The command, as it is written in settings, that `name` (`COMMAND` or `CONTAINER SUBCOMMAND`, in any case) nearly is;
/// `None` if it is one, or is like none. A module's command, which has a dot in its name, is like none.
#[must_use]
pub fn suggestion(name: &str) -> Option<String> {
    let wanted = name.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    if wanted.contains('.') {
        return None;
    }
    let known: Vec<String> = all().map(|spec| spec.name.replace('|', " ").to_ascii_uppercase()).collect();
    nearest(&wanted, known.iter().map(String::as_str)).filter(|known| *known != wanted).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn a_name_that_is_nearly_a_command_is_told_and_others_are_left_alone() {
        for (name, expected) in [
            ("FLUSHAL", Some("FLUSHALL")),
            ("flushlal", Some("FLUSHALL")),
            ("CONFIG SETT", Some("CONFIG SET")),
            ("config  stet", Some("CONFIG SET")),
            ("GTE", Some("GET")),
            ("FLUSHALL", None),
            ("config set", None),
            ("CONFIG", None),
            ("FT.SEARCH", None),
            ("JSON.GET", None),
            ("REPLICATE-ME", None),
            ("CLIENT NEWER", None),
        ] {
            assert_eq!(suggestion(name).as_deref(), expected, "{name}");
        }
    }
}

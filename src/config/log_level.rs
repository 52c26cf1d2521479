//! Checks `log.level`. Otherwise a word that is no level would be taken for a module that does not exist, and nothing
//! would be logged at all.

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// How the paths of the program's own modules begin.
const OURS: &str = "hearthside";

/// Refuses a filter that would not do what it seems to say.
pub(super) fn check(filter: &str) -> Result<(), String> {
    filter.split(',').try_for_each(|part| directive(part.trim()))
}

fn directive(part: &str) -> Result<(), String> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_part = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c));
    let (is_sound, wrong) = match part.split_once('=') {
        Some((of, level)) if is_part(of) => (is_level(level), level),
        Some((of, _)) => (false, of),
        // One of our own modules: it logs everything.
        None if part == OURS || part.starts_with("hearthside::") => (is_part(part), part),
        None => (is_level(part), part),
    };
    if is_sound {
        return Ok(());
    }
    Err(format!(
        "'{wrong}' is no level; write error, warn, info, debug, trace or off, or a filter such as \
         \"info,hearthside::cache=debug\""
    ))
}

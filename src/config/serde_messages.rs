//! Turns serde's messages about a value into messages for an operator: which kind of value it is, and what to write.
//! They never show the value itself, which may be a password.

use super::nearest::did_you_mean;

/// Kinds of values, by what serde's names for them begin with.
const KINDS: [(&str, &str); 8] = [
    ("string", "text"),
    ("integer", "a number"),
    ("floating point", "a number with a fraction"),
    ("boolean", "true or false"),
    ("sequence", "a list"),
    ("map", "a table"),
    ("unit", "nothing"),
    ("null", "nothing"),
];

/// What is wanted, by what serde calls it.
const WANTED: [(&str, &str); 12] = [
    ("u8", "a whole number from 0 to 255"),
    ("u32", "a whole number, 0 or more"),
    ("u64", "a whole number, 0 or more"),
    ("usize", "a whole number, 0 or more"),
    ("i64", "a whole number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a string", "text in quotes, \"like this\""),
    ("path string", "text in quotes, \"like this\""),
    ("a sequence", "a list, [\"like\", \"this\"]"),
    ("a map", "a table, { like = \"this\" }"),
    ("a duration", DURATION),
];

const DURATION: &str = "a duration, \"30s\", \"10m\" or \"250ms\"";
/// The same of text that cannot be read as one.
const NO_DURATION: &str = "is no duration of 0 or more; write \"30s\", \"10m\" or \"250ms\"";

/// The message for an operator.
pub(super) fn humane(message: &str) -> String {
    if let Some((found, wanted)) = split(message) {
        if found.starts_with("string") && wanted == "a duration" {
            return NO_DURATION.to_owned();
        }
        let kind = KINDS.iter().find(|(name, _)| found.starts_with(name)).map_or("something else", |(_, kind)| kind);
        return format!("is {kind}; write {}", in_words(wanted));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (value, known) = rest.split_once(", expected ").unwrap_or((rest, ""));
        let value = value.trim_matches('`');
        // Every second piece stands between backticks.
        let hint = did_you_mean(value, known.split('`').skip(1).step_by(2));
        let known = known.trim_start_matches("one of ").replace(" or ", ", ").replace('`', "\"");
        return format!("'{value}' is none of its values; write one of {known}{hint}");
    }
    if message.contains("time unit") || message.contains("duration") || message.contains("expected number at") {
        return format!("is no duration ({message}); write {DURATION}");
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("the key '{}' is missing", field.trim_matches('`'));
    }
    message.to_owned()
}

/// What was found, and what is wanted instead.
fn split(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    rest.rsplit_once(", expected ")
}

fn in_words(wanted: &str) -> &str {
    match WANTED.iter().find(|(name, _)| *name == wanted) {
        Some((_, words)) => words,
        None if wanted.starts_with("struct ") => "a section: its keys, one a line, below its name in brackets",
        None if ["enum", "variant", "string or map", "map with a single key"].iter().any(|it| wanted.contains(it)) => {
            "one of its values in quotes (docs/OPERATIONS.md)"
        }
        None => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::humane;

    #[test]
    fn messages_are_in_usual_words_and_hold_no_value() {
        for (message, expected) in [
            ("invalid type: string \"many\", expected usize", "is text; write a whole number, 0 or more"),
            ("invalid value: integer `300`, expected u8", "is a number; write a whole number from 0 to 255"),
            ("invalid value: integer `-1`, expected usize", "is a number; write a whole number, 0 or more"),
            (
                "invalid type: string \"a, expected b\", expected a sequence",
                "is text; write a list, [\"like\", \"this\"]",
            ),
            (
                "invalid value: string \"-1s\", expected a duration",
                "is no duration of 0 or more; write \"30s\", \"10m\" or \"250ms\"",
            ),
            (
                "invalid type: integer `5`, expected a duration",
                "is a number; write a duration, \"30s\", \"10m\" or \"250ms\"",
            ),
            ("invalid type: integer `5`, expected a string", "is a number; write text in quotes, \"like this\""),
            ("invalid type: string \"yes\", expected a boolean", "is text; write true or false"),
            (
                "unknown variant `bag`, expected one of `hash`, `list`",
                "'bag' is none of its values; write one of \"hash\", \"list\"",
            ),
            (
                "unknown variant `x`, expected `text` or `json`",
                "'x' is none of its values; write one of \"text\", \"json\"",
            ),
            (
                "unknown variant `hsah`, expected one of `hash`, `list`",
                "'hsah' is none of its values; write one of \"hash\", \"list\"; did you mean 'hash'?",
            ),
            ("missing field `key`", "the key 'key' is missing"),
        ] {
            assert_eq!(humane(message), expected);
        }
    }
}

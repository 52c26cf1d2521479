//! The words of the store's own messages. They may quote values: what did not fit a column, or whatever a trigger says.
//! Only the client who asked is told them; in logs, events and the audit log their code stands instead.

/// What stands before the store's own words.
pub const REFUSED: &str = "the store refused: ";
/// The same where another attempt may succeed.
pub const NOT_NOW: &str = "the store could not do it now: ";
/// The same where it did not come to this in time; without a code behind them the words are the sidecar's.
pub const OVERLOADED: &str = "the store is overloaded: ";

/// The same, as a client is told it.
const LATER: &str = "send it again later: ";

/// What is said of a message whose words a trigger or a function has chosen, behind its code.
pub const RAISED: &str = ", raised by a trigger or a function";

/// Classes of codes whose messages are Postgres's own and name no values: `errcodes-appendix` of its documentation.
const PLAIN: [&str; 21] = [
    "01", "02", "08", "0A", "21", "23", "25", "26", "28", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58",
    "HV", "XX",
];

/// What SQLite says of what a trigger raises: `SQLITE_CONSTRAINT_TRIGGER`.
const RAISED_BY_SQLITE: &str = "1811";

/// A message of the store, which ends with its code, as anybody may read it.
#[must_use]
pub fn for_anybody(message: &str) -> String {
    code_of(message).and_then(hidden).unwrap_or_else(|| message.to_owned())
}

/// A message as the client who asked is told it.
#[must_use]
pub fn for_who_asked(message: &str) -> String {
    let told = message.strip_suffix(')').and_then(|inner| inner.strip_suffix(RAISED));
    told.map_or_else(|| message.to_owned(), |told| format!("{told})"))
}

/// A text that a client was told, without such a message: nobody knows any more whether its words were the store's.
#[must_use]
pub fn without_words(text: &str) -> String {
    for before in [REFUSED, NOT_NOW, OVERLOADED, LATER] {
        if let Some((head, message)) = text.split_once(before) {
            let code = code_of(message);
            let unkept = || {
                if [OVERLOADED, LATER].contains(&before) { message } else { "in words that are not kept" }.to_owned()
            };
            let plain = || code.map_or_else(unkept, |code| format!("({code})"));
            return format!("{head}{before}{}", code.and_then(hidden).unwrap_or_else(plain));
        }
    }
    text.to_owned()
}

/// What is said instead of the words of a message with this code, if they may quote values.
fn hidden(code: &str) -> Option<String> {
    let raised = || Some(format!("a trigger or a function says no ({})", code.trim_end_matches(RAISED)));
    match code.get(..2).unwrap_or_default() {
        _ if code.ends_with(RAISED) || code == RAISED_BY_SQLITE => raised(),
        // These are put into the sidecar's own words.
        _ if matches!(code, "22021" | "22P05") => None,
        "22" => Some(format!("a value does not fit ({code})")),
        class if code.len() == 5 && !PLAIN.contains(&class) => raised(),
        _ => None,
    }
}

/// The code in the parentheses at the end.
fn code_of(message: &str) -> Option<&str> {
    let inner = message.strip_suffix(')')?;
    let code = &inner[inner.rfind('(')? + 1..];
    let plain = code.trim_end_matches(RAISED);
    let is_code = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    (!plain.is_empty() && is_code(plain)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::{for_anybody, for_who_asked, without_words};

    #[test]
    fn words_that_may_quote_values_are_kept_from_everybody() {
        for (message, expected) in [
            ("invalid input syntax for type uuid: \"SECRET\" (22P02)", "a value does not fit (22P02)"),
            ("no SECRET (P0001)", "a trigger or a function says no (P0001)"),
            ("no SECRET (45000)", "a trigger or a function says no (45000)"),
            ("no SECRET (42501, raised by a trigger or a function)", "a trigger or a function says no (42501)"),
            ("no SECRET (1811)", "a trigger or a function says no (1811)"),
        ] {
            assert_eq!(for_anybody(message), expected);
            assert_eq!(
                without_words(&format!("ERR it: the store refused: {message}")),
                format!("ERR it: the store refused: {expected}")
            );
        }
        for message in [
            "permission denied for table products (42501)",
            "duplicate key value violates unique constraint \"a\" (23505)",
            "UNIQUE constraint failed: a.b (2067)",
            "the encoding does not have it (22P05)",
            "nothing to do with the store (cache.warm)",
        ] {
            assert_eq!(for_anybody(message), message);
        }
        let told = for_who_asked("no (42501, raised by a trigger or a function)");
        assert_eq!(told, "no (42501)");
        assert_eq!(without_words(&format!("it: the store refused: {told}")), "it: the store refused: (42501)");
        let told = crate::errors::owned::overloaded("p", "no SECRET (57014)");
        assert!(told.contains("SECRET") && !without_words(&told).contains("SECRET"));
        assert!(!without_words("ERR the store refused: a long SECRET that was cut sh").contains("SECRET"));
    }
}

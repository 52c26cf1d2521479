//! What a client is told in an error stands in one catalogue, `src/errors`. docs/OPERATIONS.md has a row for every one
//! that is the sidecar's own, and no row for any other; what it says that the log reports is a line of the log.

use super::texts::{files, quoted, read, rows};

/// The string literals of Rust source, without those of comments and tests; a line that goes on is one text.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for line in joined(code).lines().filter(|line| !line.trim_start().starts_with("//")) {
        let mut rest = line;
        while let Some(at) = rest.find('"') {
            let is_character = rest[..at].ends_with('\'') && rest[at + 1..].starts_with('\'');
            rest = &rest[at + 1..];
            if is_character {
                continue;
            }
            let Some(end) = end_of_literal(rest) else { break };
            found.push(rest[..end].replace("\\\"", "\"").replace("\\r\\n", ""));
            rest = &rest[end + 1..];
        }
    }
    found
}

/// Source without the breaks inside of its literals.
fn joined(code: &str) -> String {
    let mut pieces = code.split("\\\n");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.trim_start())
}

fn end_of_literal(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })
}

/// A text whose placeholders are all alike: `{name}` and `{}` in the source, `...` in the document.
fn plain(text: &str) -> String {
    let mut pieces = text.split('{');
    let first = pieces.next().unwrap_or_default().to_owned();
    let text = pieces.fold(first, |text, piece| text + "..." + piece.split_once('}').map_or(piece, |(_, rest)| rest));
    text.trim_start_matches('-').trim_end_matches("...").to_owned()
}

/// The texts of some source files, each with placeholders that are all alike.
fn literals_of(names: impl Iterator<Item = String>) -> Vec<String> {
    let texts = names.flat_map(|name| literals(&read(&name))).map(|text| plain(&text));
    texts.filter(|text| !text.is_empty()).collect()
}

fn sources() -> impl Iterator<Item = String> {
    files(&["src"]).into_iter().filter(|name| name.ends_with(".rs") && name != "src/main.rs")
}

fn all_literals() -> Vec<String> {
    literals_of(sources())
}

const CATALOGUE: &str = "src/errors/";

/// The errors that clients are given.
fn catalogue() -> Vec<String> {
    literals_of(sources().filter(|name| name.starts_with(CATALOGUE)))
}

/// The codes that begin an error.
const CODES: [&str; 9] =
    ["ERR ", "LOADING ", "NOPERM ", "READONLY ", "EXECABORT ", "WRONGTYPE ", "NOAUTH ", "WRONGPASS ", "NOPROTO "];

/// What stands behind the code of an error, if anything does. A code alone is how an error of the upstream is known.
fn behind_code(text: &str) -> Option<&str> {
    CODES.iter().find_map(|code| text.strip_prefix(code)).filter(|behind| !behind.is_empty())
}

/// What stands behind the code and the sidecar's name, if the text is an error of its own.
fn own_error(text: &str) -> Option<&str> {
    behind_code(text)?.strip_prefix("hearthside: ")
}

/// The beginnings of the texts in the first column of the table behind a line.
fn documented(heading: &str) -> Vec<String> {
    let first = |row: &Vec<String>| quoted(&row[0]).next().map(plain).unwrap_or_else(|| panic!("{row:?} has no text"));
    rows("docs/OPERATIONS.md", heading).iter().map(first).collect()
}

#[test]
fn an_error_for_clients_is_worded_in_the_catalogue_alone() {
    let worded: Vec<String> = sources()
        .filter(|name| !name.starts_with(CATALOGUE))
        .flat_map(|name| literals(&read(&name)).into_iter().map(move |text| format!("{name}: {text}")))
        .filter(|line| line.split_once(": ").and_then(|(_, text)| behind_code(text.trim_start_matches('-'))).is_some())
        .collect();
    assert!(worded.is_empty(), "these belong into {CATALOGUE}: {worded:#?}");
}

#[test]
fn every_error_that_a_client_is_given_by_the_sidecar_has_its_row() {
    let documented = documented("## Errors that clients get");
    let catalogue = catalogue();
    let errors: Vec<&String> = catalogue.iter().filter(|text| own_error(text).is_some_and(|t| !t.is_empty())).collect();
    assert!(errors.len() > 40, "{errors:#?}");
    let has_row = |error: &str| documented.iter().any(|row| own_error(row).is_some() && error.starts_with(row));
    let missing: Vec<_> = errors.into_iter().filter(|error| !has_row(error)).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md has no row for {missing:#?}");
}

#[test]
fn every_error_that_is_documented_stands_in_the_catalogue() {
    let catalogue = catalogue();
    let is_there = |text: &str| catalogue.iter().any(|error| error.starts_with(text));
    // The reason of a text may stand beside it.
    let is_known = |row: &&String| is_there(row) || own_error(row).is_some_and(is_there);
    let documented = documented("## Errors that clients get");
    let wrong: Vec<_> = documented.iter().filter(|row| !is_known(row)).collect();
    assert!(wrong.is_empty(), "no error begins so: {wrong:#?}");
}

#[test]
fn every_reason_of_the_store_and_the_journal_has_its_row() {
    let documented = documented("What follows \"could not be read:\"");
    let literals = all_literals();
    let unknown: Vec<_> = documented.iter().filter(|row| !literals.iter().any(|text| text.starts_with(*row))).collect();
    assert!(unknown.is_empty(), "no reason begins so: {unknown:#?}");
    let source = read("src/store/error.rs");
    let reasons: Vec<String> = literals_of_errors(&source);
    assert!(reasons.len() > 6, "{reasons:#?}");
    let missing: Vec<_> = reasons.iter().filter(|text| !documented.iter().any(|row| text.starts_with(row))).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md has no row for {missing:#?}");
    // Of the journal's errors some keep the sidecar from starting: those are rows of "Failures".
    let document = read("docs/OPERATIONS.md");
    for text in files(&["src/journal"]).iter().flat_map(|name| literals_of_errors(&read(name))) {
        let beginning = text.split([':', ';']).next().unwrap_or_default().trim_end();
        assert!(document.contains(&format!("`{beginning}")), "docs/OPERATIONS.md does not say \"{beginning}\"");
    }
}

/// The texts of `#[error("...")]`, without those that are a placeholder and nothing more.
fn literals_of_errors(source: &str) -> Vec<String> {
    let texts = source.split("#[error(").skip(1).filter_map(|behind| literals(behind).into_iter().next());
    texts.map(|text| plain(&text)).filter(|text| text.chars().any(char::is_alphabetic)).collect()
}

#[test]
fn every_line_of_the_log_that_is_documented_stands_in_the_source() {
    let literals = all_literals();
    let mut wrong = Vec::new();
    for row in rows("docs/OPERATIONS.md", "## Failures") {
        let kind = row[0].split('`').next().unwrap_or_default();
        for text in quoted(&row[0]).filter(|text| kind.contains("log") && text.contains(' ')) {
            let parts: Vec<&str> = text.split("...").map(str::trim).filter(|part| !part.is_empty()).collect();
            if !literals.iter().any(|literal| parts.iter().all(|part| literal.contains(part))) {
                wrong.push(text.to_owned());
            }
        }
    }
    assert!(wrong.is_empty(), "no line of the log says: {wrong:#?}");
}

/// Tests fail on a warning that they do not expect, so what they expect must be a whole message, and one that there is.
#[test]
fn every_warning_that_a_test_expects_is_a_message_of_the_code() {
    let messages = read("tests/it/support/warnings.rs");
    let messages = messages.split("\n/// Whether").next().expect("the list");
    let known = all_literals();
    let expected: Vec<String> = literals(messages).iter().map(|text| plain(text)).collect();
    assert!(expected.len() > 50);
    for text in expected {
        // What is doubtful in the configuration is logged behind the place where it stands.
        let text = text.trim_start_matches("...: ");
        assert!(known.iter().any(|message| message == text), "the code logs no {text:?}");
    }
}

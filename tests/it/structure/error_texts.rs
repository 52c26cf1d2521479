//! docs/OPERATIONS.md has a row for every error that the sidecar itself gives to a client, and no row for any other; what it
//! says that the log reports is a line of the log.

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

fn all_literals() -> Vec<String> {
    let sources = files(&["src"]).into_iter().filter(|name| name.ends_with(".rs") && name != "src/main.rs");
    sources.flat_map(|name| literals(&read(&name))).map(|text| plain(&text)).filter(|text| !text.is_empty()).collect()
}

/// The codes that begin an error.
const CODES: [&str; 4] = ["ERR ", "LOADING ", "NOPERM ", "EXECABORT "];

/// What stands behind the code and the sidecar's name, if the text is an error of its own.
fn own_error(text: &str) -> Option<&str> {
    let behind = CODES.iter().find_map(|code| text.strip_prefix(code))?;
    behind.strip_prefix("hearthside: ")
}

/// The beginnings of the texts in the first column of the table behind a line.
fn documented(heading: &str) -> Vec<String> {
    let first = |row: &Vec<String>| quoted(&row[0]).next().map(plain).unwrap_or_else(|| panic!("{row:?} has no text"));
    rows("docs/OPERATIONS.md", heading).iter().map(first).collect()
}

#[test]
fn every_error_that_a_client_is_given_by_the_sidecar_has_its_row() {
    let documented = documented("## Errors that clients get");
    let literals = all_literals();
    let errors: Vec<&String> = literals.iter().filter(|text| own_error(text).is_some_and(|t| !t.is_empty())).collect();
    assert!(errors.len() > 40, "{errors:#?}");
    // Of a text that only puts another one behind it ("ERR hearthside: {error}") the other one has the row.
    let has_row = |error: &str| {
        documented
            .iter()
            .any(|row| own_error(row).is_none_or(|text| !text.is_empty()) && error.starts_with(row.as_str()))
    };
    let missing: Vec<_> = errors.into_iter().filter(|error| !has_row(error)).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md has no row for {missing:#?}");
}

#[test]
fn every_error_that_is_documented_stands_in_the_source() {
    let literals = all_literals();
    let is_there = |text: &str| literals.iter().any(|literal| literal.starts_with(text));
    let mut wrong = Vec::new();
    for row in documented("## Errors that clients get") {
        // The code may stand in one text, and what follows in another.
        if !is_there(&row) && !own_error(&row).is_some_and(is_there) {
            wrong.push(row);
        }
    }
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

//! What the documents refer to is there: hazards, decisions, promises, documents, source files and tests.

use std::path::Path;
use std::process::Command;

use super::texts::{files, quoted, read, root, rows, tests};

/// The texts that may refer to something.
fn texts() -> Vec<(String, String)> {
    let mut names = files(&["src", "tests/it", "benches", "scripts", "docs"]);
    names.extend(["README.md", "CONTRIBUTING.md", "config.toml"].map(str::to_owned));
    let is_text = |name: &String| {
        let kind = Path::new(name).extension().and_then(|kind| kind.to_str());
        matches!(kind, None | Some("rs" | "py" | "md" | "toml" | "sh"))
    };
    names.into_iter().filter(is_text).map(|name| (name.clone(), read(&name))).collect()
}

#[test]
fn every_hazard_has_its_number_and_its_test_or_is_open() {
    let tests = tests();
    let hazards = rows("docs/HAZARDS.md", "# Known ways to be wrong");
    assert!(hazards.len() >= 50);
    for (at, row) in hazards.iter().enumerate() {
        let [number, _, remedy, test] = &row[..] else { panic!("{row:?}") };
        assert_eq!(*number, (at + 1).to_string());
        assert!(!test.is_empty() || remedy.starts_with("Open"), "{row:?} has no test");
        for name in quoted(test) {
            assert!(tests.contains(&format!("fn {name}(")), "hazard {number}: there is no test {name}");
        }
    }
}

/// The numbers that stand behind a word: "hazards 1, 2 and 25".
fn numbers_behind(text: &str, word: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for piece in text.split(word).skip(1) {
        let piece = piece.strip_prefix('s').unwrap_or(piece);
        let Some(mut rest) = piece.strip_prefix(' ') else { continue };
        loop {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let Ok(number) = digits.parse() else { break };
            found.push(number);
            rest = &rest[digits.len()..];
            match [", ", " and "].iter().find_map(|and| rest.strip_prefix(and)) {
                Some(more) => rest = more,
                None => break,
            }
        }
    }
    found
}

#[test]
fn every_reference_to_a_hazard_a_decision_a_promise_and_a_document_resolves() {
    let hazards = rows("docs/HAZARDS.md", "# Known ways to be wrong").len();
    let decisions = files(&["docs/decisions"]);
    let promises = read("docs/CONSISTENCY.md");
    let mut wrong = Vec::new();
    for (name, text) in texts() {
        for number in numbers_behind(&text, "hazard").into_iter().filter(|number| !(1..=hazards).contains(number)) {
            wrong.push(format!("{name}: hazard {number}"));
        }
        for number in numbers_behind(&text, "decision") {
            if !decisions.iter().any(|path| path.starts_with(&format!("docs/decisions/{number:04}-"))) {
                wrong.push(format!("{name}: decision {number:04}"));
            }
        }
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_promise(word)) {
            if name.starts_with("src") && !promises.contains(&format!("| {word} |")) {
                wrong.push(format!("{name}: {word}"));
            }
        }
        for path in text.split(|c: char| c.is_whitespace() || "`'\"()[]<>,:;|".contains(c)).filter(|p| is_document(p)) {
            let path = path.trim_start_matches("../").trim_end_matches('.');
            if !root().join(path).exists() && !root().join("docs").join(path).exists() {
                wrong.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// C1, C2 and so on: a promise of docs/CONSISTENCY.md.
fn is_promise(word: &str) -> bool {
    word.strip_prefix('C').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A document of this project, by its name in capitals or its path below docs.
fn is_document(path: &str) -> bool {
    let path = path.trim_end_matches('.');
    let Some(name) = path.strip_suffix(".md") else { return false };
    path.starts_with("docs/") || !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The file of a module below `src` or `tests/it`, if there is one.
fn module(path: &str) -> Option<String> {
    let path = path.replace("::", "/");
    let files =
        [format!("src/{path}"), format!("tests/it/{path}")].map(|path| [path.clone() + ".rs", path + "/mod.rs"]);
    files.concat().into_iter().find(|file| root().join(file).exists())
}

/// What docs/CONSISTENCY.md says shows a promise: a module, or the beginning of a test's name behind its module.
#[test]
fn the_tests_that_the_consistency_contract_names_are_there() {
    let is_path =
        |name: &&str| name.contains("::") && name.chars().all(|c| c.is_lowercase() || "_:.0123456789".contains(c));
    let contract = read("docs/CONSISTENCY.md");
    let named: Vec<&str> = quoted(&contract).filter(is_path).collect();
    assert!(named.len() > 40);
    for name in named {
        let (path, test) = name.rsplit_once("::").expect("a path");
        let has_test = |file: String| read(&file).contains(&format!("fn {}", test.trim_end_matches("...")));
        assert!(module(name).is_some() || module(path).is_some_and(has_test), "there is no test {name}");
    }
}

/// A source file that a document names is there.
#[test]
fn the_pictures_of_the_measurements_are_those_of_their_tables() {
    let mut draw = Command::new("python3");
    let output = draw.current_dir(root()).args(["benches/draw.py", "--check", "docs/benchmarks.md"]).output();
    let output = output.expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_source_file_that_a_document_names_is_there() {
    let sources = files(&["src", "tests", "benches"]);
    let mut wrong = Vec::new();
    for (name, text) in texts().into_iter().filter(|(name, _)| name.ends_with(".md") || name.starts_with("src")) {
        for path in quoted(&text).filter(|path| path.ends_with(".rs") && !path.contains([' ', '\n', '*', '{'])) {
            if !sources.iter().any(|source| source == path || source.ends_with(&format!("/{path}"))) {
                wrong.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_container_is_built_with_the_pinned_rust() {
    let manifest = read("Cargo.toml");
    let pinned = manifest.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a version");
    assert_eq!(pinned.split('.').count(), 3, "{pinned} is no exact version");
    // Without the second line rustup would fetch what rust-toolchain.toml says.
    for line in [format!("FROM rust:{pinned}-"), format!("ENV RUSTUP_TOOLCHAIN={pinned}\n")] {
        assert!(read("Dockerfile").contains(&line), "the Dockerfile has no {line}");
    }
}

#[test]
fn the_newest_changes_are_those_of_this_version() {
    let changes = read("CHANGELOG.md");
    let newest = changes.lines().find_map(|line| line.strip_prefix("## ")).expect("a version");
    let version = env!("CARGO_PKG_VERSION");
    assert!(newest.starts_with(&format!("{version}, ")) || newest == "Unreleased", "{newest} is not {version}");
}

#[test]
fn every_test_that_a_recipe_names_is_there() {
    let (recipes, tests) = (read("CONTRIBUTING.md"), tests());
    let is_name =
        |name: &&str| name.matches('_').count() > 2 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let named: Vec<&str> = quoted(&recipes).filter(is_name).collect();
    assert!(named.len() > 10);
    for name in named {
        assert!(tests.contains(&format!("fn {name}(")), "CONTRIBUTING.md: there is no test {name}");
    }
}

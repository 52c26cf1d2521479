//! Imports go down, one outside crate has one door.

use std::fs;
use std::path::{Path, PathBuf};

/// The ranks of `src`, as lib.rs draws them.
const RANKS: [(&str, u32); 21] = [
    ("config", 0),
    ("resp", 0),
    ("telemetry", 0),
    ("command", 1),
    ("keys", 1),
    ("access", 2),
    ("mapping", 2),
    ("record", 2),
    ("route", 2),
    ("journal", 3),
    ("store", 3),
    ("cache", 4),
    ("clients", 4),
    ("definitions", 4),
    ("upstream", 4),
    ("session", 5),
    ("dispatch", 6),
    ("transaction", 7),
    ("admin", 8),
    ("server", 8),
    ("app", 9),
];

/// Rank 0 that rank 0 may use: settings and clocks are everybody's.
const COMMON: [&str; 1] = ["config"];

/// Outside crates that one module alone may name.
const DOORS: [(&str, &str); 9] = [
    ("redis_protocol", "resp"),
    ("moka", "cache"),
    ("sqlx", "store journal"),
    ("redis", "upstream"),
    ("tokio_rustls", "upstream server"),
    ("prometheus_client", "telemetry"),
    ("axum", "admin"),
    ("rustix", "telemetry"),
    ("clap", "main"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn rank(module: &str) -> Option<u32> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

/// The top-level module of a file, and its text without its tests.
fn files() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let describe = |path: PathBuf| {
        let relative = path.strip_prefix(&root).expect("below src");
        let module = relative.components().next().expect("a name").as_os_str().to_string_lossy().replace(".rs", "");
        let text = fs::read_to_string(&path).expect("readable");
        let code = text.split("#[cfg(test)]").next().expect("code").to_owned();
        (module, relative.display().to_string(), code)
    };
    found.into_iter().map(describe).collect()
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for (module, file, code) in files() {
        let Some(own) = rank(&module) else {
            assert!(["lib", "main"].contains(&module.as_str()), "{file} has no rank; give it one");
            continue;
        };
        for piece in code.split("crate::").skip(1) {
            let used: String = piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let allowed =
                used == module || COMMON.contains(&used.as_str()) || rank(&used).is_some_and(|rank| rank < own);
            if !allowed {
                wrong.push(format!("{file} imports {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_outside_crate_has_one_door() {
    let mut wrong = Vec::new();
    for (module, file, code) in files() {
        for (name, door) in DOORS {
            let path = format!("{name}::");
            let uses = code.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
                let outside_quotes = line.split('"').step_by(2);
                outside_quotes
                    .flat_map(|piece| piece.match_indices(&path).map(move |(at, _)| &piece[..at]))
                    .any(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
            });
            if uses && door.split(' ').all(|door| module != door) {
                wrong.push(format!("{file} names {name}, whose door is {door}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_glob_imports_and_no_large_files() {
    for (_, file, code) in files() {
        assert!(!code.contains("use super::*"), "{file} imports everything of its parent");
        assert!(code.lines().count() <= 450, "{file} has become two ideas");
    }
}

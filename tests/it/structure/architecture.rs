//! The drawing in docs/ARCHITECTURE.md is the code's: imports go down its ranks, and an outside crate has the doors it
//! says.

use std::collections::BTreeMap;

use super::code::{Code, sources};
use super::texts::{quoted, read, rows};

const DRAWING: &str = "docs/ARCHITECTURE.md";

/// Rank 0 that rank 0 may use: settings and the texts of errors are everybody's.
const COMMON: [&str; 2] = ["config", "errors"];

/// The rank of each module, as the drawing has it.
fn ranks() -> BTreeMap<String, u32> {
    let mut ranks = BTreeMap::new();
    for row in rows(DRAWING, "# Architecture") {
        let rank = row[0].parse().unwrap_or_else(|_| panic!("{row:?} has no rank"));
        for module in quoted(&row[1]) {
            assert!(ranks.insert(module.to_owned(), rank).is_none(), "{module} stands twice in {DRAWING}");
        }
    }
    ranks
}

/// The modules that are no part of the drawing: they name the others.
fn is_the_whole(code: &Code) -> bool {
    ["lib", "main"].contains(&code.module())
}

#[test]
fn every_module_has_its_rank_in_the_drawing_and_none_that_is_gone() {
    let (ranks, sources) = (ranks(), sources());
    for code in sources.iter().filter(|code| !is_the_whole(code)) {
        assert!(ranks.contains_key(code.module()), "{} has no row in the table of {DRAWING}", code.path);
    }
    for module in ranks.keys() {
        assert!(sources.iter().any(|code| code.module() == module), "{DRAWING} has {module}, which is not there");
    }
}

/// Each import goes to a lower rank, so no circle of modules can come to be, of one rank or of several.
#[test]
fn imports_go_down() {
    let (ranks, mut wrong) = (ranks(), Vec::new());
    for code in sources().iter().filter(|code| !is_the_whole(code)) {
        for piece in code.bare.split("crate::").skip(1) {
            let used: String = piece.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_lower = ranks.get(&used).is_some_and(|rank| *rank < ranks[code.module()]);
            if used != code.module() && !COMMON.contains(&&*used) && !is_lower {
                wrong.push(format!("{} imports {used}", code.path));
            }
        }
        if code.bare.contains(&"super::".repeat(code.depth())) {
            wrong.push(format!("{} climbs out of its module with `super`", code.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The modules that may name an outside crate, by the name that it has in code.
fn doors() -> Vec<(String, Vec<String>)> {
    let (manifest, rows) = (read("Cargo.toml"), rows(DRAWING, "## Doors"));
    let mut doors = Vec::new();
    for row in rows {
        for name in quoted(&row[0]) {
            assert!(manifest.contains(&format!("\n{name} = ")), "{DRAWING}: there is no crate {name}");
            doors.push((name.replace('-', "_"), quoted(&row[1]).map(str::to_owned).collect()));
        }
    }
    assert!(doors.len() >= 10);
    doors
}

/// Whether a path of this crate stands in the code.
fn names(code: &Code, outside: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.bare.match_indices(&format!("{outside}::")).any(|(at, _)| !code.bare[..at].ends_with(is_part))
}

#[test]
fn an_outside_crate_is_named_behind_its_doors_only() {
    let (sources, mut wrong) = (sources(), Vec::new());
    for (outside, doors) in doors() {
        for door in &doors {
            let is_open = sources.iter().any(|code| code.module() == door && names(code, &outside));
            assert!(is_open, "{door} does not use {outside}: take it out of {DRAWING}");
        }
        for code in sources.iter().filter(|code| !doors.iter().any(|door| door == code.module())) {
            if names(code, &outside) {
                wrong.push(format!("{} names {outside}, whose doors are {doors:?}", code.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

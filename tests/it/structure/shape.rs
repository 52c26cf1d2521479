//! Files and functions are short, and a name means one thing where one looks for it.

use super::code::sources;

/// A file past this has become two ideas. The module of its unit tests does not count.
const LONGEST_FILE: usize = 450;

/// A function past this cannot be seen as a whole.
const LONGEST_FUNCTION: usize = 170;

#[test]
fn files_and_functions_are_short() {
    let mut wrong = Vec::new();
    for code in sources() {
        let lines = code.bare.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{} has {lines} lines", code.path));
        }
        for function in code.functions().into_iter().filter(|function| function.lines > LONGEST_FUNCTION) {
            wrong.push(format!("{}: {} has {} lines", code.path, function.name, function.lines));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_imported_that_is_not_named() {
    for code in sources() {
        assert!(!code.bare.contains("use super::*"), "{} imports everything of its parent", code.path);
    }
}

//! Files and functions are short, lines fit on a screen, and a name means one thing where one looks for it.

use std::collections::BTreeMap;

use super::code::sources;
use super::texts::read;

/// A file past this has become two ideas. The module of its unit tests does not count.
const LONGEST_FILE: usize = 400;

/// A function past this cannot be seen as a whole.
const LONGEST_FUNCTION: usize = 70;

/// A line past this is cut or broken where it is read.
const WIDEST_LINE: usize = 120;

#[test]
fn files_and_functions_are_short_and_lines_are_narrow() {
    let mut wrong = Vec::new();
    for code in sources() {
        let lines = code.bare.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{} has {lines} lines", code.path));
        }
        for function in code.functions().into_iter().filter(|function| function.lines > LONGEST_FUNCTION) {
            wrong.push(format!("{}: {} has {} lines", code.path, function.name, function.lines));
        }
        for (at, line) in read(&format!("src/{}", code.path)).lines().enumerate() {
            if line.chars().count() > WIDEST_LINE {
                wrong.push(format!("{}:{} is {} columns wide", code.path, at + 1, line.chars().count()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_two_types_of_a_folder_have_one_name() {
    let (sources, mut files) = (sources(), BTreeMap::new());
    for code in &sources {
        for name in code.types() {
            files.entry((code.folder(), name)).or_insert_with(Vec::new).push(&code.path);
        }
    }
    let twice: Vec<_> = files.into_iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

/// Whoever begins what goes on for as long as the process lives. A task of theirs that ended in a panic would be gone
/// without a word.
const BEGINNERS: [&str; 3] = ["app/background.rs", "app/serving.rs", "cache/tasks.rs"];

#[test]
fn what_lasts_begins_again_after_a_panic() {
    let sources = sources();
    let beginners = sources.iter().filter(|code| BEGINNERS.contains(&&*code.path));
    let tasks: Vec<&str> = beginners.flat_map(|code| code.bare.split(".spawn(").skip(1)).collect();
    assert!(tasks.len() > 15, "{}", tasks.len());
    tasks.iter().for_each(|task| assert!(task.starts_with("lasting("), "{}", task.lines().next().unwrap_or_default()));
}

#[test]
fn nothing_is_imported_that_is_not_named() {
    for code in sources() {
        assert!(!code.bare.contains("use super::*"), "{} imports everything of its parent", code.path);
    }
}

//! Bugs that can be planted to prove that the tests find them: `scripts/mutants`. Without the feature `planted` there
//! are none.

/// True when `bug` is planted (`HEARTHSIDE_PLANTED`), in a build for that purpose.
#[must_use]
pub fn is_planted(bug: &str) -> bool {
    cfg!(feature = "planted") && std::env::var("HEARTHSIDE_PLANTED").is_ok_and(|planted| planted == bug)
}

//! Migrations are embedded: a changed file must rebuild the crate. A release that is built from a git checkout knows its
//! commit (HEARTHSIDE STATUS); whoever builds from anything else may say it in `HEARTHSIDE_COMMIT`.
#![allow(clippy::print_stdout, reason = "cargo reads a build script's standard output")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-env-changed=HEARTHSIDE_COMMIT");
    // Other builds would begin anew with every commit.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if is_release && std::env::var_os("HEARTHSIDE_COMMIT").is_none() && Path::new(".git").exists() {
        // What HEAD is changes here, whatever branch it names.
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
            println!("cargo:rerun-if-changed={log}");
        }
        if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
            println!("cargo:rustc-env=HEARTHSIDE_COMMIT={commit}");
        }
    }
}

/// What git says, if it is there and has something to say.
fn git(arguments: &[&str]) -> Option<String> {
    let said = Command::new("git").args(arguments).output().ok().filter(|said| said.status.success())?;
    let said = String::from_utf8(said.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|said| !said.is_empty())
}

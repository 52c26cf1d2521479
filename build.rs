//! Migrations are embedded: a changed file must rebuild the crate.
#![allow(clippy::print_stdout, reason = "cargo reads a build script's standard output")]

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}

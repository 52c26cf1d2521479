//! The power of a machine: when it fails, what a sidecar has not synced is gone. And its disk, which may fail alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::sidecar::Builder;

/// The library `synced.c`, built for this test.
pub struct Power(TempDir);

impl Power {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/synced.c");
        let library = folder.path().join("synced.so");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", source, "-ldl", "-o"]).arg(&library);
        assert!(cc.status().expect("a C compiler is installed (scripts/test installs it)").success());
        Self(folder)
    }

    /// A sidecar of which it is known what it has synced.
    pub fn watches(&self, builder: Builder) -> Builder {
        builder.environment("LD_PRELOAD", self.0.path().join("synced.so").display().to_string())
    }

    /// From now on a file cannot be synced, or can be again.
    pub fn disk_fails(&self, file: &Path, fails: bool) {
        let mark = format!("{}.unsyncable", file.display());
        if fails { fs::write(mark, "").expect("written") } else { fs::remove_file(mark).expect("removed") }
    }

    /// True when all of a journal has been synced.
    pub fn has_synced(&self, journal: &Path) -> bool {
        let read = |more: &str| fs::read(format!("{}{more}", journal.display())).ok();
        ["", "-wal"].iter().all(|file| read(file) == read(&format!("{file}.synced")))
    }

    /// What is left of a journal whose sidecar was killed together with its machine.
    pub fn fails(&self, journal: &Path) {
        let path = |more: &str| format!("{}{more}", journal.display());
        for file in ["", "-wal"].map(path) {
            let _never_made = fs::remove_file(&file);
            let _never_synced = fs::rename(format!("{file}.synced"), &file);
        }
        let _never_made = fs::remove_file(path("-shm"));
    }
}

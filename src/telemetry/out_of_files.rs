//! Tells that this process may open no more files: then the server that it cannot reach is not at fault.

use std::fs::File;
use std::io;

/// What to do about it.
pub const NO_FILES: &str =
    "this sidecar, or its machine, may open no more files (ulimit -n, LimitNOFILE=, fs.file-max)";

/// EMFILE and ENFILE, which are the same numbers on every Unix.
/// Source: <https://man7.org/linux/man-pages/man3/errno.3.html>
#[must_use]
pub fn is_cause_of(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// True when no file can be opened at the moment: looking a name up fails then, and does not say why.
#[must_use]
pub fn is_so_now() -> bool {
    File::open("/dev/null").is_err_and(|error| is_cause_of(&error))
}

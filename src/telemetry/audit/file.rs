//! The file that lines are appended to. It is opened again by its path when it is to be used anew, so that whoever
//! rotates logs may rename it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What is in it concerns people: nobody else may read it.
const MODE: u32 = 0o600;

/// An open file.
#[derive(Debug)]
pub struct LogFile {
    pub(super) path: PathBuf,
    file: File,
    /// A line was cut short, by a full disk for instance: the next one begins behind it.
    is_torn: bool,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
        Ok(Self { path: path.to_owned(), file, is_torn: false })
    }

    /// Appends a line.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        let text = [if self.is_torn { "\n" } else { "" }, line, "\n"].concat();
        self.is_torn = true;
        self.file.write_all(text.as_bytes())?;
        self.is_torn = false;
        Ok(())
    }
}

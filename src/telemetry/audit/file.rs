//! The file that lines are appended to. It is opened again by its path when it is to be used anew, so that whoever
//! rotates logs may rename it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

/// What is in it concerns people: nobody else may read it.
const MODE: u32 = 0o600;

/// So long the file system may take to open the file.
const PATIENCE: Duration = Duration::from_secs(2);

/// An open file.
#[derive(Debug)]
pub struct LogFile {
    pub(super) path: PathBuf,
    file: File,
    /// A line was cut short, by a full disk for instance: the next one begins behind it.
    is_torn: bool,
}

impl LogFile {
    /// Opens the file, and makes it if need be. A pipe must have a reader, and lines for which it has no room are lost.
    ///
    /// # Errors
    /// It cannot be opened, or not within `PATIENCE`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (give, given) = channel();
        let path = path.to_owned();
        // Nobody can end an `open` that waits for a server of files.
        thread::Builder::new().name("audit-open".into()).spawn(move || give.send(Self::open_now(&path)))?;
        given.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    fn open_now(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(path)?;
        Ok(Self { path: path.to_owned(), is_torn: is_torn(path, &file), file })
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

/// True when the last line has no end: whoever wrote it was stopped, or had no room. A pipe or a device has no last
/// line, and one that may not be read is taken to be whole.
fn is_torn(path: &Path, file: &File) -> bool {
    let end = file.metadata().ok().filter(Metadata::is_file).and_then(|about| about.len().checked_sub(1));
    let mut last = *b"\n";
    let is_read = end.is_some_and(|end| File::open(path).and_then(|file| file.read_exact_at(&mut last, end)).is_ok());
    is_read && last != *b"\n"
}

//! Which file a path leads to. What is written to an open file whose name was removed, or was given to another file,
//! nobody finds again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Device and inode of a file: another file of the same name has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// That of the file at `path`; none where there is none, or where it cannot be seen.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self { device: found.dev(), inode: found.ino() })
    }
}

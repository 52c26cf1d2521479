//! The files of a SQLite database that are open, and whether they are still the ones that others find at its path. What
//! is written to an open file whose name was removed, or was given to another file, nobody finds again.
//!
//! Source: <https://www.sqlite.org/howtocorrupt.html>, "Unlinking or renaming a database file while in use"

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// One of the files of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The database itself.
    Database,
    /// Its write-ahead log.
    Log,
    /// The index of the log, which all that have it open share.
    Index,
}

/// All of them, with what follows the path of the database in their names.
const PARTS: [(Part, &str); 3] = [(Part::Database, ""), (Part::Log, "-wal"), (Part::Index, "-shm")];

/// A database's files, and which of them are open.
#[derive(Clone, Debug)]
pub struct SqliteFiles {
    paths: [PathBuf; PARTS.len()],
    open: [Option<FileId>; PARTS.len()],
}

impl SqliteFiles {
    /// Those that are there now are open.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        // SQLite keeps the log beside the database itself, also where the path is a link to it.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let paths = PARTS.map(|(part, ending)| match part {
            Part::Database => path.to_path_buf(),
            Part::Log | Part::Index => beside(&real, ending),
        });
        let open = paths.each_ref().map(|path| FileId::at(path));
        Self { paths, open }
    }

    /// Where one of them is.
    #[must_use]
    pub fn path(&self, part: Part) -> &Path {
        &self.paths[part as usize]
    }

    /// True when whoever opens the database now finds this file as it is open, or it was not open.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.open[part as usize].is_none_or(|open| FileId::at(self.path(part)) == Some(open))
    }

    /// True when whoever opens it finds another file in the place of this one.
    #[must_use]
    pub fn has_another(&self, part: Part) -> bool {
        !self.has(part) && self.path(part).exists()
    }

    /// True when whoever opens it finds all files that are open.
    #[must_use]
    pub fn are_there(&self) -> bool {
        PARTS.iter().all(|(part, _)| self.has(*part))
    }

    /// True when all of them were there.
    #[must_use]
    pub fn are_complete(&self) -> bool {
        self.open.iter().all(Option::is_some)
    }

    /// The same files, of which those that are gone now are never found again: when they are closed, the next file of
    /// that name may be given the number of the one before.
    #[must_use]
    pub fn leaving(&self) -> Self {
        let gone = FileId { device: u64::MAX, inode: u64::MAX };
        let open = PARTS.map(|(part, _)| if self.has(part) { self.open[part as usize] } else { Some(gone) });
        Self { open, ..self.clone() }
    }

    /// The names of the files that are open, and not there any more.
    #[must_use]
    pub fn gone(&self) -> Vec<String> {
        let gone = PARTS.iter().filter(|(part, _)| !self.has(*part));
        gone.filter_map(|(part, _)| Some(self.path(*part).file_name()?.to_string_lossy().into_owned())).collect()
    }

    /// The database that is there now is a copy of the one that is open, and may be replaced by another copy.
    pub fn renew_database(&mut self) {
        self.open[Part::Database as usize] = FileId::at(self.path(Part::Database));
    }
}

/// The path of a file that stands beside another one, by what follows its name.
#[must_use]
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{Part, SqliteFiles, beside};

    #[test]
    fn a_file_that_is_removed_or_replaced_is_not_the_one_that_is_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let write = |ending| std::fs::write(beside(&path, ending), "").expect("written");
        write("");
        write("-wal");
        assert!(!SqliteFiles::at(&path).are_complete());
        write("-shm");
        let files = SqliteFiles::at(&path);
        assert!(files.are_there() && files.are_complete() && files.gone().is_empty());
        std::fs::remove_file(beside(&path, "-wal")).expect("removed");
        std::fs::rename(beside(&path, "-shm"), beside(&path, "-kept")).expect("renamed");
        write("-shm");
        assert_eq!(files.gone(), ["a.db-wal", "a.db-shm"]);
        assert!(files.has(Part::Database) && !files.has(Part::Log) && !files.has_another(Part::Log));
        assert!(files.has_another(Part::Index) && !files.are_there());
    }
}

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
        std::fs::metadata(path).ok().map(|found| Self::of(&found))
    }

    /// The same, and that of a link where `path` is one, whatever it leads to.
    fn unfollowed(path: &Path) -> Option<Self> {
        std::fs::symlink_metadata(path).ok().map(|found| Self::of(&found))
    }

    /// That of a file that was looked at.
    #[must_use]
    pub fn of(found: &std::fs::Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

/// Most links that are followed one after the other, as with SQLite.
const MOST_LINKS: usize = 100;

/// Where SQLite finds the database of a path now, and its other files beside it: links are followed, also where they
/// lead to a file that is not there yet.
/// Source: <https://www.sqlite.org/c3ref/c_open_autoproxy.html>, `SQLITE_OPEN_NOFOLLOW`
#[must_use]
pub fn found_at(path: &Path) -> PathBuf {
    let mut found = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Some(target) = target_of(&found) else { break };
        found = target;
    }
    let folder = found.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (std::fs::canonicalize(folder), found.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => found,
    }
}

/// Why SQLite cannot open what stands beside a database, if that is so: it says neither the file nor the reason.
#[must_use]
pub fn in_the_way(path: &Path) -> Option<String> {
    let found = found_at(path);
    ["-wal", "-shm"].iter().find_map(|ending| {
        let file = beside(&found, ending);
        let about = std::fs::symlink_metadata(&file).ok()?;
        let name = file.display();
        match target_of(&file) {
            Some(target) => Some(format!(
                "{name} is a symbolic link, which SQLite does not follow; move the file itself there: mv {} {name}",
                target.display()
            )),
            None if !about.is_file() => Some(format!("{name} is no file; move it away")),
            None => None,
        }
    })
}

/// Where a link leads; none where there is no link.
fn target_of(link: &Path) -> Option<PathBuf> {
    let target = std::fs::read_link(link).ok()?;
    Some(link.parent().map_or_else(|| target.clone(), |folder| folder.join(&target)))
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

/// A database's files, and which of them are open. Its path may lead to it over links. They are followed at each look,
/// as by whoever opens the database then: a link in the place of a file that was moved leads to another log.
#[derive(Clone, Debug)]
pub struct SqliteFiles {
    path: PathBuf,
    open: [Option<FileId>; PARTS.len()],
}

impl SqliteFiles {
    /// Those that are there now are open.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let mut files = Self { path: path.to_path_buf(), open: [None; PARTS.len()] };
        files.open = files.found();
        files
    }

    /// Those that are there now.
    fn found(&self) -> [Option<FileId>; PARTS.len()] {
        let database = found_at(&self.path);
        PARTS.map(|(_, ending)| FileId::unfollowed(&beside(&database, ending)))
    }

    /// True when the database was there at both moments, and was another one.
    #[must_use]
    pub fn is_another(&self, before: &Self) -> bool {
        let [then, now] = [before, self].map(|files| files.open[Part::Database as usize]);
        then.is_some() && then != now
    }

    /// The path that was given.
    #[must_use]
    pub fn given(&self) -> &Path {
        &self.path
    }

    /// Where one of them is now, or would be.
    #[must_use]
    pub fn path(&self, part: Part) -> PathBuf {
        beside(&found_at(&self.path), PARTS[part as usize].1)
    }

    /// True when whoever opens the database now finds this file as it is open, or it was not open.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.open[part as usize].is_none_or(|open| FileId::unfollowed(&self.path(part)) == Some(open))
    }

    /// True when whoever opens it finds another file in the place of this one. A link that stands beside the database
    /// is none: SQLite opens none.
    #[must_use]
    pub fn has_another(&self, part: Part) -> bool {
        !self.has(part) && std::fs::symlink_metadata(self.path(part)).is_ok_and(|found| !found.is_symlink())
    }

    /// True when whoever opens it finds all files that are open.
    #[must_use]
    pub fn are_there(&self) -> bool {
        let found = self.found();
        self.open.iter().zip(found).all(|(open, found)| open.is_none_or(|open| found == Some(open)))
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
        self.open[Part::Database as usize] = FileId::unfollowed(&self.path(Part::Database));
    }
}

/// The path of a file that stands beside another one, by what follows its name.
#[must_use]
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{Part, SqliteFiles, beside, found_at, in_the_way};

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

    #[test]
    fn a_file_that_is_moved_and_linked_back_is_not_the_one_that_is_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, elsewhere) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let written = |ending| std::fs::write(beside(&path, ending), "").expect("written");
        ["", "-wal", "-shm"].into_iter().for_each(written);
        let files = SqliteFiles::at(&path);
        std::fs::rename(&path, &elsewhere).expect("moved");
        symlink("b.db", &path).expect("linked");
        assert_eq!(files.gone(), ["b.db-wal", "b.db-shm"], "that is where whoever opens it looks for them");
        assert!(files.has(Part::Database) && !files.has_another(Part::Log) && !files.are_there());
        let linked = SqliteFiles::at(&path);
        assert!(linked.are_there() && linked.path(Part::Log).ends_with("b.db-wal"));
        std::fs::remove_file(&elsewhere).expect("removed");
        assert!(found_at(&path).ends_with("b.db"), "it leads to a file that is not there");
    }

    #[test]
    fn a_log_that_is_moved_and_linked_back_is_opened_by_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let written = |ending| std::fs::write(beside(&path, ending), "").expect("written");
        ["", "-wal", "-shm"].into_iter().for_each(written);
        let files = SqliteFiles::at(&path);
        assert_eq!(in_the_way(&path), None);
        std::fs::rename(beside(&path, "-wal"), folder.path().join("log")).expect("moved");
        symlink("log", beside(&path, "-wal")).expect("linked");
        assert!(!files.has(Part::Log) && !files.has_another(Part::Log));
        let why = in_the_way(&path).expect("a link is in the way");
        assert!(why.contains("a.db-wal is a symbolic link") && why.contains("/log "), "{why}");
    }
}

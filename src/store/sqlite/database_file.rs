//! The store's file: where a URL says that it is, why it cannot be opened, and how a new one is made. A path that is
//! mistyped must not become a new, empty store.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::config;
use crate::store::StoreError;
use crate::telemetry::sqlite_files::in_the_way;

/// What the file of a database begins with. An empty file is one without tables.
/// Source: <https://www.sqlite.org/fileformat2.html>
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// How the driver opens it.
///
/// # Errors
/// [`StoreError::Refused`] of a URL that cannot be read.
pub(super) fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    let options =
        SqliteConnectOptions::from_str(url).map_err(|error| StoreError::of_url(&error, "sqlite://folder/file.db"))?;
    Ok(options.disable_statement_logging())
}

/// Where the file is; none of a database in memory.
pub(super) fn of(url: &str) -> Option<PathBuf> {
    let options = options(url).ok()?;
    let path = options.get_filename();
    (!url.contains(":memory:")).then(|| path.to_path_buf())
}

/// True of a file that is not there, and that the settings ask for: it is the built-in demo's, or the URL says that it
/// is to be made (`mode=rwc`).
pub(in crate::store) fn is_to_be_made(settings: &config::Store) -> bool {
    let is_asked_for = is_demo(settings) || settings.url.contains("mode=rwc");
    is_asked_for && of(&settings.url).is_some_and(|path| !path.exists())
}

/// True of the place where the demo world is made by itself.
pub(super) fn is_demo(settings: &config::Store) -> bool {
    settings.url == config::Store::default().url
}

/// Refuses what cannot be opened as a database.
///
/// # Errors
/// [`StoreError::Refused`] says the path, and what to do.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    let fault = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => "is a folder; name a file in it".to_owned(),
        Ok(found) if !found.is_file() => "is no file".to_owned(),
        Ok(_) => match begins_as_database(path) {
            Ok(true) => return in_the_way(path).map_or(Ok(()), |fault| Err(StoreError::Refused(fault))),
            Ok(false) => "is no SQLite database".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            check_folder(path)?;
            "does not exist; correct the path, or make the file with `hearthside migrate` (with --demo, it is filled \
             with the demo world)"
                .to_owned()
        }
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(StoreError::Refused(format!("{} {fault}", shown(path))))
}

/// Why nothing is read or written while there is no file at the store's path.
pub(super) fn gone(path: &Path) -> StoreError {
    StoreError::Unavailable(format!(
        "its file {} is gone: it, or its folder, was removed or moved away while it is in use; put it back",
        shown(path)
    ))
}

/// A path from the root on: relative to which folder the settings' is taken is part of the error.
fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

/// Refuses a file whose folder is not there.
///
/// # Errors
/// [`StoreError::Refused`] names the folder.
pub(super) fn check_folder(path: &Path) -> Result<(), StoreError> {
    match folder_of(path).filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(StoreError::Refused(format!("{}: there is no such folder", shown(folder)))),
        None => Ok(()),
    }
}

fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

fn begins_as_database(path: &Path) -> std::io::Result<bool> {
    let mut first = Vec::new();
    File::open(path)?.take(HEADER.len() as u64).read_to_end(&mut first)?;
    Ok(first.is_empty() || first == HEADER)
}

/// The folder of the demo's file, made if need be.
///
/// # Errors
/// [`StoreError::Refused`] with its path.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let Some(folder) = folder_of(path) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| refused(folder, &error))
}

/// An error of the file.
pub(super) fn refused(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Refused(format!("{}: {error}", shown(path)))
}

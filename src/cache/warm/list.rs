//! The file of a warm start: which keys were hot, by mapping, and never their values. Pure but for the file itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::MappingConfig;
use crate::telemetry::clock::{UnixMs, millis};

/// The layout of the file; one of another layout is not read.
const VERSION: u32 = 1;

/// Keys of a list that is older are not loaded, in milliseconds: nobody knows who wants them.
const OLD: i64 = 24 * 60 * 60 * 1000;

/// The keys that were hot at one moment.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WarmList {
    version: u32,
    /// Milliseconds since 1970.
    saved_at: i64,
    mappings: Vec<HotKeys>,
}

/// Those of one mapping.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HotKeys {
    /// The mapping's key pattern.
    pub(super) mapping: String,
    /// A digest of the mapping's block: those of another one are not loaded.
    block: String,
    /// The hottest first.
    pub(super) keys: Vec<String>,
}

impl HotKeys {
    pub(super) fn of(block: &MappingConfig, keys: Vec<String>) -> Self {
        Self { mapping: block.key.clone(), block: digest(block), keys }
    }
}

fn digest(block: &MappingConfig) -> String {
    let block = serde_json::to_vec(block).unwrap_or_default();
    Sha256::digest(&block).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl WarmList {
    pub(super) fn new(saved_at: UnixMs, mappings: Vec<HotKeys>) -> Self {
        Self { version: VERSION, saved_at: saved_at.as_ms(), mappings }
    }

    /// The keys of a mapping with this block that are worth loading at `now`: none of a list that is too old, or older
    /// than the mapping's TTL, and none that another block had chosen.
    pub(super) fn worth_loading(&self, block: &MappingConfig, now: UnixMs) -> &[String] {
        let ttl = block.ttl.map_or(OLD, |ttl| i64::try_from(millis(ttl)).unwrap_or(OLD));
        let age = now.since(UnixMs::from_ms(self.saved_at));
        let of_block = self.mappings.iter().find(|hot| hot.mapping == block.key && hot.block == digest(block));
        of_block.filter(|_| age <= ttl.min(OLD)).map_or(&[], |hot| &hot.keys)
    }

    /// Reads a file of at most `most` bytes; `None` when there is none. Only a regular file is read: nobody writes into
    /// a pipe for a start that waits for it.
    ///
    /// # Errors
    /// It cannot be read, or is no list of this layout.
    pub(super) fn read(path: &Path, most: u64) -> io::Result<Option<Self>> {
        let about = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            about => about?,
        };
        if !about.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        if about.len() > most {
            return Err(io::Error::other(format!("it has {} bytes, more than cache.warm_keys need", about.len())));
        }
        let mut text = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut text)?;
        let list: Self = serde_json::from_slice(&text)?;
        match list.version {
            VERSION => Ok(Some(list)),
            other => Err(io::Error::other(format!("it is of layout {other}, and this version reads {VERSION}"))),
        }
    }

    /// Replaces the file by this list, whole or not at all. Keys may be secrets (session ids): only the owner reads it.
    ///
    /// # Errors
    /// It cannot be written; nothing is left of it.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = path.with_added_extension("new");
        // Whatever is left there of an earlier attempt, or was put there.
        drop(fs::remove_file(&beside));
        let replaced = self.write_new(&beside).and_then(|()| fs::rename(&beside, path));
        if replaced.is_err() {
            drop(fs::remove_file(&beside));
        }
        replaced?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()
    }
}

/// The bytes of a key in the file, with what stands beside it.
pub(super) fn written_bytes(key: &str) -> u64 {
    serde_json::to_string(key).map_or(u64::MAX, |text| text.len() as u64 + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HotKeys, OLD, WarmList};
    use crate::config::MappingConfig;
    use crate::telemetry::clock::UnixMs;

    const MOST: u64 = 1 << 20;

    fn block(table: &str) -> MappingConfig {
        serde_json::from_value(serde_json::json!({"key": "a:{id}", "type": "hash", "table": table})).expect("a block")
    }

    #[test]
    fn only_keys_of_the_same_block_and_of_lately_are_worth_loading() {
        let (saved_at, keys) = (UnixMs::from_ms(1_000_000), vec!["a:1".to_owned()]);
        let list = WarmList::new(saved_at, vec![HotKeys::of(&block("t"), keys.clone())]);
        assert_eq!(list.worth_loading(&block("t"), saved_at.plus(OLD)), keys);
        assert!(list.worth_loading(&block("t"), saved_at.plus(OLD + 1)).is_empty());
        assert!(list.worth_loading(&block("other"), saved_at).is_empty());
        let short = MappingConfig { ttl: Some(Duration::from_secs(5)), ..block("t") };
        let list = WarmList::new(saved_at, vec![HotKeys::of(&short, keys.clone())]);
        assert_eq!(list.worth_loading(&short, saved_at.plus(5000)), keys);
        assert!(list.worth_loading(&short, saved_at.plus(5001)).is_empty());
    }

    #[test]
    fn only_a_regular_file_of_a_bounded_length_is_read_and_nothing_is_left_of_one_that_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("warm");
        let list = WarmList::new(UnixMs::from_ms(1), vec![HotKeys::of(&block("t"), vec!["a:1".to_owned()])]);
        std::fs::create_dir(&path).expect("a folder in its place");
        assert!(WarmList::read(&path, MOST).is_err() && list.write(&path).is_err());
        assert!(!folder.path().join("warm.new").exists());
        std::fs::remove_dir(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/full", folder.path().join("warm.new")).expect("a link");
        list.write(&path).expect("the link is replaced");
        assert!(WarmList::read(&path, 10).is_err_and(|error| error.to_string().contains("cache.warm_keys")));
        assert_eq!(WarmList::read(&path, MOST).expect("read"), Some(list));
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/warm");
        assert!(WarmList::read(&path, MOST).expect("it is not there").is_none());
        let list = WarmList::new(UnixMs::from_ms(1), vec![HotKeys::of(&block("t"), vec!["a:\"1\"".to_owned()])]);
        list.write(&path).expect("written");
        list.write(&path).expect("written again");
        assert_eq!(WarmList::read(&path, MOST).expect("read"), Some(list));
        for text in ["", "{", "{\"version\":2,\"saved_at\":1,\"mappings\":[]}"] {
            std::fs::write(&path, text).expect("written");
            assert!(WarmList::read(&path, MOST).is_err(), "{text}");
        }
    }
}

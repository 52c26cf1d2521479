//! Chooses the keys that are loaded again after a change: those that were read since they were loaded.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cache::entry::{Entry, Use};
use crate::keys::MappingId;

/// Keys of one mapping that may wait to be loaded again; more are left to whoever asks for them.
const WAITING: usize = 8192;

/// A key that was forgotten, and when it was used last.
pub(crate) type Forgotten = (Bytes, Use);

/// What one mapping has forgotten.
pub(crate) type OfMapping = (MappingId, mpsc::Receiver<Forgotten>);

/// Passes them on, those of each mapping by themselves: one whose table is locked holds up no other.
#[derive(Debug)]
pub(crate) struct Refreshes(HashMap<MappingId, mpsc::Sender<Forgotten>>);

impl Refreshes {
    /// The sending and the receiving ends of these mappings; nothing is chosen where `pause` is zero.
    pub(crate) fn new(pause: Duration, mappings: impl Iterator<Item = MappingId>) -> (Self, Vec<OfMapping>) {
        let ends = mappings.filter(|_| !pause.is_zero()).map(|id| (id, mpsc::channel(WAITING)));
        let (senders, receivers) = ends.map(|(id, (sender, forgotten))| ((id, sender), (id, forgotten))).unzip();
        (Self(senders), receivers)
    }

    /// The entry of `key` is forgotten because it has changed.
    pub(super) fn forgot(&self, key: &[u8], entry: &Entry) {
        if let Some(sender) = self.0.get(&entry.mapping).filter(|_| entry.was_read()) {
            // Where too many wait, the next reader loads it.
            let _full = sender.try_send((Bytes::copy_from_slice(key), entry.used_at()));
        }
    }
}

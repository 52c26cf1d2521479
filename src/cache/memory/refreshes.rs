//! Chooses the keys that are loaded again after a change: those that were read since they were loaded.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cache::entry::{Entry, Use};
use crate::keys::MappingId;

/// Keys that may wait to be loaded again; more are left to whoever asks for them.
const WAITING: usize = 8192;

/// A key that was forgotten, its mapping, and when it was used last.
pub(crate) type Forgotten = (MappingId, Bytes, Use);

/// Passes them on.
#[derive(Debug)]
pub(crate) struct Refreshes(Option<mpsc::Sender<Forgotten>>);

impl Refreshes {
    /// The sending and the receiving end; nothing is chosen where `pause` is zero.
    pub(crate) fn new(pause: Duration) -> (Self, mpsc::Receiver<Forgotten>) {
        let (sender, forgotten) = mpsc::channel(WAITING);
        (Self(Some(sender).filter(|_| !pause.is_zero())), forgotten)
    }

    /// The entry of `key` is forgotten because it has changed.
    pub(super) fn forgot(&self, key: &[u8], entry: &Entry) {
        if let Some(sender) = self.0.as_ref().filter(|_| entry.was_read()) {
            // Where too many wait, the next reader loads it.
            let _full = sender.try_send((entry.mapping, Bytes::copy_from_slice(key), entry.used_at()));
        }
    }
}

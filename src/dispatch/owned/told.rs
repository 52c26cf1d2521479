//! What is told of commands that only memory carries out: those who are subscribed to events of keys hear what Redis
//! would tell of the same command. What goes to the store tells of itself (`cache/memory/key_events.rs`).

use crate::cache::Cause;
use crate::dispatch::Owned;
use crate::record::KeyEvent;

impl Owned {
    /// This has happened to a key, if somebody listens.
    pub(super) fn tell(&self, key: &[u8], events: impl FnOnce() -> Vec<KeyEvent>) {
        if !self.events.is_idle() {
            events().iter().for_each(|event| self.events.tell(key, event.name, &event.fields));
        }
    }

    /// Forgets a key of which a client's DEL deletes no rows; true if it was in memory.
    pub fn forget(&self, key: &[u8], client: u64) -> bool {
        let was_there = self.cache.invalidate(key, Cause::Asked("DEL", client));
        if was_there {
            self.tell(key, || vec![KeyEvent::deleted()]);
        }
        was_there
    }
}

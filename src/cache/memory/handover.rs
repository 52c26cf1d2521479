//! A handover: when the mappings are reloaded, a new cache takes the place of the old one. Until the old one has
//! finished its writes, the new one asks the store nothing, because what it read could be older than what the old one
//! acknowledges (C1).

use tokio::sync::watch;

/// A gate in front of the store: open, or closed until the old cache has ended.
#[derive(Debug)]
pub(crate) struct Handover(watch::Sender<bool>);

impl Default for Handover {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Handover {
    /// Waits until it is open.
    pub(crate) async fn opened(&self) {
        if !self.is_open() {
            // It lives as long as those who wait at it.
            let mut is_open = self.0.subscribe();
            let _open = is_open.wait_for(|open| *open).await;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) fn close(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }
}

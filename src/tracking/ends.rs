//! When keys that were read end by themselves. An item is one end of one key; a key that has changed meanwhile ends by
//! no item any more, and the item is dropped when its time comes, or when there are too many of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;

use crate::telemetry::clock::Tick;
use crate::telemetry::locked;

/// Items that are kept in any case.
const FEW: usize = 1024;

type Item = (Tick, u32, Box<[u8]>);

#[derive(Debug, Default)]
pub(super) struct Ends {
    items: Mutex<BinaryHeap<Reverse<Item>>>,
    last: AtomicU32,
    /// Notified when one comes earlier than all others.
    sooner: Notify,
}

impl Ends {
    /// The number of the next item, never 0.
    pub(super) fn next_item(&self) -> u32 {
        match self.last.fetch_add(1, Relaxed).wrapping_add(1) {
            0 => self.next_item(),
            item => item,
        }
    }

    pub(super) fn add(&self, key: &[u8], end: Tick, item: u32) {
        let mut items = locked(&self.items);
        let is_first = items.peek().is_none_or(|Reverse((first, ..))| end < *first);
        items.push(Reverse((end, item, key.into())));
        drop(items);
        if is_first {
            self.sooner.notify_one();
        }
    }

    /// The key and item of one whose time has come.
    pub(super) fn due(&self, now: Tick) -> Option<(Box<[u8]>, u32)> {
        let mut items = locked(&self.items);
        items.peek().filter(|Reverse((end, ..))| *end <= now)?;
        items.pop().map(|Reverse((_, item, key))| (key, item))
    }

    /// Returns when one may be due.
    pub(super) async fn come(&self) {
        loop {
            let next = locked(&self.items).peek().map(|Reverse((end, ..))| *end);
            let sooner = self.sooner.notified();
            match next {
                None => sooner.await,
                Some(end) => {
                    let left = end.since(Tick::now());
                    if left == 0 || tokio::time::timeout(Duration::from_millis(left), sooner).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Drops those by which no key ends any more, when there are many more than keys.
    pub(super) fn tidy(&self, keys: usize, is_armed: impl Fn(&[u8], u32) -> bool) {
        let mut items = locked(&self.items);
        if items.len() > FEW + 2 * keys {
            items.retain(|Reverse((_, item, key))| is_armed(key, *item));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        locked(&self.items).is_empty()
    }

    pub(super) fn clear(&self) {
        *locked(&self.items) = BinaryHeap::new();
    }
}

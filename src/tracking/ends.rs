//! When keys that were read end by themselves. An item is one end of one key. Each end that the table knows of a key
//! has one here: it is put here behind the table, and taken out before it (`Tracking::forget`). A key that has changed
//! meanwhile, or ends earlier, does not end by its item any more, which is dropped when its time comes, or when there
//! are too many of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use crate::telemetry::clock::Tick;
use crate::telemetry::locked;

/// Items that are kept in any case.
const FEW: usize = 1024;

type Item = (Tick, Box<[u8]>);

#[derive(Debug, Default)]
pub(super) struct Ends {
    items: Mutex<BinaryHeap<Reverse<Item>>>,
    /// Notified when one comes earlier than all others.
    sooner: Notify,
}

impl Ends {
    pub(super) fn add(&self, key: &[u8], end: Tick) {
        let mut items = locked(&self.items);
        let is_first = items.peek().is_none_or(|Reverse((first, _))| end < *first);
        items.push(Reverse((end, key.into())));
        drop(items);
        if is_first {
            // There are two who wait while one cache takes the place of another.
            self.sooner.notify_waiters();
        }
    }

    /// The key and the end of one whose time has come.
    pub(super) fn due(&self, now: Tick) -> Option<(Box<[u8]>, Tick)> {
        let mut items = locked(&self.items);
        items.peek().filter(|Reverse((end, _))| *end <= now)?;
        items.pop().map(|Reverse((end, key))| (key, end))
    }

    /// Returns when one may be due.
    pub(super) async fn come(&self) {
        loop {
            let mut sooner = pin!(self.sooner.notified());
            // Whatever comes after the look is heard of.
            sooner.as_mut().enable();
            let next = locked(&self.items).peek().map(|Reverse((end, _))| *end);
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

    /// Drops those by which no key ends any more, when they are many beside the keys.
    pub(super) fn tidy(&self, keys: usize, is_armed: impl Fn(&[u8], Tick) -> bool) {
        let mut items = locked(&self.items);
        if items.len() > FEW + keys + keys / 4 {
            items.retain(|Reverse((end, key))| is_armed(key, *end));
        }
    }

    #[cfg(test)]
    pub(super) fn has(&self, key: &[u8], end: Tick) -> bool {
        locked(&self.items).iter().any(|Reverse((at, of))| *at == end && **of == *key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        locked(&self.items).len()
    }

    pub(super) fn clear(&self) {
        *locked(&self.items) = BinaryHeap::new();
    }
}

//! What a client that tracks its keys is told of owned ones (CLIENT TRACKING): by a push behind its replies, or to the
//! client that it has named (REDIRECT).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use super::untold::Untold;
use super::{Peer, Registry};
use crate::resp::invalidation;
use crate::tracking::Ear;

/// What a key costs beside its bytes while it waits.
const COST: usize = 32;

/// Where a client hears of the owned keys that it tracks.
#[derive(Debug)]
pub struct Told {
    peer: Arc<Peer>,
    registry: Arc<Registry>,
    /// The id of the client that hears of them instead; 0: none.
    redirect: AtomicU64,
}

impl Told {
    /// The client hears of them, or the one of this id.
    #[must_use]
    pub fn new(peer: Arc<Peer>, registry: Arc<Registry>, redirect: Option<u64>) -> Self {
        Self { peer, registry, redirect: AtomicU64::new(redirect.unwrap_or(0)) }
    }

    /// From now on the client of this id hears of them, or nobody else.
    pub fn redirect(&self, id: Option<u64>) {
        self.redirect.store(id.unwrap_or(0), Relaxed);
    }

    /// Tells the client that is named instead; false if none is.
    fn is_elsewhere(&self, keys: impl FnOnce() -> Option<Bytes>) -> bool {
        let id = self.redirect.load(Relaxed);
        if id == 0 {
            return false;
        }
        match self.registry.find(id) {
            Some(peer) => peer.invalidate(keys()),
            None => self.peer.hears(News::Broken(id)),
        }
        true
    }
}

impl Ear for Told {
    fn hears(&self, key: &Bytes) {
        if !self.is_elsewhere(|| Some(invalidation::array(std::slice::from_ref(key)))) {
            self.peer.hears(News::Key(key.clone()));
        }
    }

    fn hears_of(&self, prefix: &Bytes, key: &Bytes) {
        if !self.is_elsewhere(|| Some(invalidation::array(std::slice::from_ref(key)))) {
            self.peer.hears(News::Of(prefix.clone(), key.clone()));
        }
    }

    fn hears_all(&self) {
        if !self.is_elsewhere(|| None) {
            self.peer.hears(News::All);
        }
    }
}

/// One thing that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// This key has changed.
    Key(Bytes),
    /// This key has changed, which begins with this prefix.
    Of(Bytes, Bytes),
    /// Any may have.
    All,
    /// The client of this id, which was to be told, is gone.
    Broken(u64),
}

/// What waits for one client.
#[derive(Debug, Default)]
pub struct OwnNews(Untold<News>);

impl OwnNews {
    pub(super) fn add(&self, news: News) {
        let cost = COST + if let News::Key(key) | News::Of(_, key) = &news { key.len() } else { 0 };
        self.0.add(Some((news, cost)).filter(|(news, _)| *news != News::All), (News::All, COST));
    }

    /// True while something waits.
    #[inline]
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_any()
    }

    /// All that waits, as it is written: of each key once. Of the keys that begin with one prefix one message tells.
    #[must_use]
    pub fn take(&self) -> Vec<Bytes> {
        let (mut all, mut by_prefix) = (Vec::new(), BTreeMap::<Bytes, Vec<Bytes>>::new());
        let mut told = HashSet::new();
        for news in self.0.take() {
            match news {
                News::Key(key) if !told.insert(key.clone()) => {}
                News::Key(key) => all.push(invalidation::push(Some(&[key]))),
                News::Of(prefix, key) => by_prefix.entry(prefix).or_default().push(key),
                News::All => all.push(invalidation::push(None)),
                News::Broken(id) => all.push(invalidation::broken(id)),
            }
        }
        for mut keys in by_prefix.into_values() {
            keys.sort_unstable();
            keys.dedup();
            all.push(invalidation::push(Some(&keys)));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::untold::MOST;
    use super::{News, OwnNews};

    fn taken(news: &OwnNews) -> Vec<String> {
        news.take().iter().map(|message| String::from_utf8_lossy(&message[21..]).into_owned()).collect()
    }

    #[test]
    fn keys_of_one_prefix_are_told_together_and_too_many_become_all() {
        let news = OwnNews::default();
        let of = |prefix: &'static str, key: &'static str| News::Of(Bytes::from(prefix), Bytes::from(key));
        let key = || News::Key(Bytes::from("k"));
        for one in [key(), key(), of("b", "b2"), of("a", "a1"), of("b", "b1"), of("b", "b2")] {
            news.add(one);
        }
        assert!(news.is_any());
        let one = |key: &str| format!("*1\r\n${}\r\n{key}\r\n", key.len());
        assert_eq!(taken(&news), [one("k"), one("a1"), "*2\r\n$2\r\nb1\r\n$2\r\nb2\r\n".to_owned()]);
        assert!(!news.is_any() && taken(&news).is_empty());
        news.add(News::Key(Bytes::from(vec![b'x'; MOST])));
        news.add(News::Key(Bytes::from("k")));
        assert_eq!(taken(&news), ["_\r\n".to_owned(), one("k")], "a value read after that may be kept");
    }
}

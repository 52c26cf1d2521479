//! The table of subscriptions: which client is subscribed to what. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::subscriber::Subscriber;
use crate::resp::pubsub::Kind;

/// A channel, pattern or shard channel.
pub(super) type Topic = (Kind, Bytes);

/// What the connection must do for the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Subscribe(Topic),
    Unsubscribe(Topic),
}

#[derive(Debug)]
struct Entry {
    members: HashMap<u64, Arc<Subscriber>>,
    /// The upstream has confirmed it.
    active: watch::Sender<bool>,
    /// SUBSCRIBE requests whose confirmation is still to come: an older one must not confirm a newer.
    awaited: u32,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    topics: HashMap<Topic, Entry>,
    /// Confirmations still to come of topics that nobody wants any more.
    orphaned: HashMap<Topic, u32>,
    /// There is a connection. While there is none, no wishes are made: everything that is wanted is subscribed when
    /// there is.
    is_connected: bool,
    /// The first wish has been made, which has the first connection opened.
    has_begun: bool,
}

impl Table {
    /// One more member; the first one's wish, and what tells when it is confirmed.
    pub(super) fn join(&mut self, topic: Topic, subscriber: &Arc<Subscriber>) -> (Option<Wish>, watch::Receiver<bool>) {
        let mut wish = None;
        let orphaned = &mut self.orphaned;
        let is_wished = !std::mem::replace(&mut self.has_begun, true) || self.is_connected;
        let entry = self.topics.entry(topic.clone()).or_insert_with(|| {
            let awaited = 1 + orphaned.remove(&topic).unwrap_or(0);
            wish = is_wished.then_some(Wish::Subscribe(topic));
            Entry { members: HashMap::new(), active: watch::Sender::new(false), awaited }
        });
        entry.members.insert(subscriber.id, subscriber.clone());
        (wish, entry.active.subscribe())
    }

    /// One member less; the last one's wish.
    pub(super) fn leave(&mut self, topic: &Topic, id: u64) -> Option<Wish> {
        let entry = self.topics.get_mut(topic)?;
        entry.members.remove(&id);
        if !entry.members.is_empty() {
            return None;
        }
        let entry = self.topics.remove(topic)?;
        if !self.is_connected {
            return None;
        }
        if entry.awaited > 0 {
            self.orphaned.insert(topic.clone(), entry.awaited);
        }
        Some(Wish::Unsubscribe(topic.clone()))
    }

    /// The upstream has confirmed one SUBSCRIBE.
    pub(super) fn confirm(&mut self, topic: &Topic) {
        if let Some(entry) = self.topics.get_mut(topic) {
            entry.awaited = entry.awaited.saturating_sub(1);
            if entry.awaited == 0 {
                entry.active.send_replace(true);
            }
        } else if let Some(awaited) = self.orphaned.get_mut(topic) {
            *awaited -= 1;
            if *awaited == 0 {
                self.orphaned.remove(topic);
            }
        }
    }

    /// The connection is gone.
    pub(super) fn end(&mut self) {
        self.is_connected = false;
        self.orphaned.clear();
        for entry in self.topics.values() {
            entry.active.send_replace(false);
        }
    }

    /// Topics that are wanted, and those whose confirmation is still to come.
    pub(super) fn len(&self) -> usize {
        self.topics.len() + self.orphaned.len()
    }

    /// A new connection knows nothing: everything that is wanted must be subscribed again.
    pub(super) fn begin_again(&mut self) -> Vec<Topic> {
        self.is_connected = true;
        self.orphaned.clear();
        for entry in self.topics.values_mut() {
            entry.awaited = 1;
            entry.active.send_replace(false);
        }
        self.topics.keys().cloned().collect()
    }

    /// The subscribers of a topic.
    pub(super) fn members(&self, topic: &Topic) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.topics.get(topic).into_iter().flat_map(|entry| entry.members.values())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Subscriber, Table, Wish};
    use crate::resp::pubsub::Kind;

    #[test]
    fn the_first_member_subscribes_and_the_last_one_unsubscribes() {
        let (one, two) =
            (Arc::new(Subscriber::new(1, 100, Arc::default())), Arc::new(Subscriber::new(2, 100, Arc::default())));
        let topic = (Kind::Channel, Bytes::from_static(b"a"));
        let mut table = Table::default();
        table.begin_again();
        let (wish, active) = table.join(topic.clone(), &one);
        assert_eq!(wish, Some(Wish::Subscribe(topic.clone())));
        assert!(!*active.borrow());
        assert_eq!(table.join(topic.clone(), &two).0, None);
        table.confirm(&topic);
        assert!(*active.borrow());
        assert_eq!(table.members(&topic).count(), 2);
        assert_eq!(table.leave(&topic, 1), None);
        assert_eq!(table.leave(&topic, 2), Some(Wish::Unsubscribe(topic.clone())));
        assert_eq!(table.members(&topic).count(), 0);
    }

    #[test]
    fn an_older_confirmation_confirms_nothing_newer() {
        let one = Arc::new(Subscriber::new(1, 100, Arc::default()));
        let topic = (Kind::Channel, Bytes::from_static(b"a"));
        let mut table = Table::default();
        table.begin_again();
        let _first = table.join(topic.clone(), &one);
        table.leave(&topic, 1);
        let (_, active) = table.join(topic.clone(), &one);
        table.confirm(&topic);
        assert!(!*active.borrow(), "that was the first SUBSCRIBE's");
        table.confirm(&topic);
        assert!(*active.borrow());
        assert_eq!(table.begin_again(), std::slice::from_ref(&topic));
        assert!(!*active.borrow());
        table.confirm(&topic);
        assert!(*active.borrow());
    }

    #[test]
    fn without_a_connection_nothing_is_kept_but_what_is_wanted() {
        let one = Arc::new(Subscriber::new(1, 100, Arc::default()));
        let topic = |name: u32| (Kind::Channel, Bytes::from(name.to_string()));
        let mut table = Table::default();
        let (first, mut active) = table.join(topic(0), &one);
        assert_eq!(first, Some(Wish::Subscribe(topic(0))), "it has a connection opened");
        assert_eq!(table.begin_again(), [topic(0)]);
        table.confirm(&topic(0));
        table.end();
        assert!(!*active.borrow_and_update(), "who comes now waits for the next connection");
        for name in 1..1000 {
            assert_eq!(table.join(topic(name), &one).0, None);
            assert_eq!(table.leave(&topic(name), 1), None);
        }
        assert!(table.orphaned.is_empty());
        assert_eq!(table.begin_again(), [topic(0)]);
        table.confirm(&topic(0));
        assert!(*active.borrow());
    }

    #[test]
    fn topics_that_nobody_wants_are_kept_until_they_are_confirmed() {
        let one = Arc::new(Subscriber::new(1, 100, Arc::default()));
        let topics: Vec<_> = (0..1000).map(|i| (Kind::Channel, Bytes::from(format!("c:{i}")))).collect();
        let mut table = Table::default();
        table.begin_again();
        for topic in &topics {
            table.join(topic.clone(), &one);
            table.leave(topic, 1);
        }
        assert_eq!(table.len(), 1000);
        topics.iter().take(900).for_each(|topic| table.confirm(topic));
        assert_eq!(table.len(), 100);
        table.end();
        assert_eq!(table.len(), 0);
    }
}

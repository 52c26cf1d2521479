//! The table of subscriptions at one server: which client is subscribed to what. Pure.

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
    /// The server is not needed any more.
    End,
}

/// What the server has said of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Awaited,
    Confirmed,
    /// With this error.
    Refused(Arc<str>),
}

/// Who is subscribed to a topic, and what has become of it.
#[derive(Debug)]
pub(super) struct Entry {
    members: HashMap<u64, Arc<Subscriber>>,
    standing: watch::Sender<Standing>,
    /// SUBSCRIBE requests whose confirmation is still to come: an older one must not confirm a newer.
    awaited: u32,
    /// It was confirmed once: while it is not again, messages are missed.
    has_stood: bool,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    topics: HashMap<Topic, Entry>,
    /// Confirmations still to come of topics that nobody wants any more.
    orphaned: HashMap<Topic, u32>,
    /// Topics of which it is not known what becomes of them.
    unsettled: usize,
    /// Messages may have been missed, and nobody has been told yet.
    has_gap: bool,
    /// There is a connection. While there is none, no wishes are made: everything that is wanted is subscribed when
    /// there is.
    is_connected: bool,
    /// The first wish has been made, which has the first connection opened.
    has_begun: bool,
    /// The server is not needed any more.
    pub(super) is_ended: bool,
}

impl Entry {
    fn is_awaited(&self) -> bool {
        *self.standing.borrow() == Standing::Awaited
    }

    /// The server says this of it; `unsettled` is kept up.
    fn stands(&mut self, standing: Standing, unsettled: &mut usize) {
        *unsettled -= usize::from(self.is_awaited());
        *unsettled += usize::from(standing == Standing::Awaited);
        self.has_stood |= standing == Standing::Confirmed;
        self.standing.send_replace(standing);
    }
}

impl Table {
    /// One more member; the first one's wish, and what tells what becomes of it.
    pub(super) fn join(
        &mut self,
        topic: Topic,
        subscriber: &Arc<Subscriber>,
    ) -> (Option<Wish>, watch::Receiver<Standing>) {
        let mut wish = None;
        if !self.topics.contains_key(&topic) {
            let standing = watch::Sender::new(Standing::Awaited);
            let entry = Entry { members: HashMap::new(), standing, awaited: 0, has_stood: false };
            wish = self.give(topic.clone(), entry);
        }
        let Some(entry) = self.topics.get_mut(&topic) else { return (wish, watch::channel(Standing::Awaited).1) };
        entry.members.insert(subscriber.id, subscriber.clone());
        (wish, entry.standing.subscribe())
    }

    /// A topic from another server's table; the wish that it needs.
    pub(super) fn give(&mut self, topic: Topic, mut entry: Entry) -> Option<Wish> {
        let is_wished = !std::mem::replace(&mut self.has_begun, true) || self.is_connected;
        entry.awaited = 1 + self.orphaned.remove(&topic).unwrap_or(0);
        entry.standing.send_replace(Standing::Awaited);
        self.unsettled += 1;
        self.has_gap |= entry.has_stood;
        self.topics.insert(topic.clone(), entry);
        is_wished.then_some(Wish::Subscribe(topic))
    }

    /// One member less; the last one's wish.
    pub(super) fn leave(&mut self, topic: &Topic, id: u64) -> Option<Wish> {
        let entry = self.topics.get_mut(topic)?;
        entry.members.remove(&id);
        if !entry.members.is_empty() {
            return None;
        }
        self.take(topic).and_then(|(_, wish)| wish)
    }

    /// The topic is not of this server any more; the wish that follows.
    pub(super) fn take(&mut self, topic: &Topic) -> Option<(Entry, Option<Wish>)> {
        let entry = self.topics.remove(topic)?;
        self.unsettled -= usize::from(entry.is_awaited());
        if !self.is_connected {
            return Some((entry, None));
        }
        if entry.awaited > 0 {
            self.orphaned.insert(topic.clone(), entry.awaited);
        }
        Some((entry, Some(Wish::Unsubscribe(topic.clone()))))
    }

    /// The upstream has confirmed one SUBSCRIBE.
    pub(super) fn confirm(&mut self, topic: &Topic) {
        self.answered(topic, Some(Standing::Confirmed));
    }

    /// The upstream has answered one SUBSCRIBE with an error, and will be asked no more; true if it was confirmed once.
    pub(super) fn refuse(&mut self, topic: &Topic, error: &str) -> bool {
        self.answered(topic, Some(Standing::Refused(error.into())));
        self.topics.get(topic).is_some_and(|entry| entry.has_stood)
    }

    /// The upstream has answered one SUBSCRIBE with an error that may pass.
    pub(super) fn put_off(&mut self, topic: &Topic) {
        self.answered(topic, None);
    }

    fn answered(&mut self, topic: &Topic, standing: Option<Standing>) {
        if let Some(entry) = self.topics.get_mut(topic) {
            entry.awaited = entry.awaited.saturating_sub(1);
            if let (0, Some(standing)) = (entry.awaited, standing) {
                entry.stands(standing, &mut self.unsettled);
            }
        } else if let Some(awaited) = self.orphaned.get_mut(topic) {
            *awaited -= 1;
            if *awaited == 0 {
                self.orphaned.remove(topic);
            }
        }
    }

    /// True for a topic that somebody wants, and that the server is asked for once more.
    pub(super) fn again(&mut self, topic: &Topic) -> bool {
        let Some(entry) = self.topics.get_mut(topic).filter(|_| self.is_connected) else { return false };
        entry.awaited += 1;
        entry.stands(Standing::Awaited, &mut self.unsettled);
        true
    }

    /// The server has ended a subscription by itself; true if somebody wants it.
    pub(super) fn interrupt(&mut self, topic: &Topic) -> bool {
        let has_stood = self.topics.get(topic).is_some_and(|entry| entry.has_stood);
        self.has_gap |= has_stood;
        has_stood
    }

    /// True once after messages may have been missed, when everything is answered again.
    pub(super) fn is_whole_again(&mut self) -> bool {
        self.unsettled == 0 && self.is_connected && std::mem::take(&mut self.has_gap)
    }

    /// True when something that is wanted was confirmed once.
    pub(super) fn has_stood(&self) -> bool {
        self.topics.values().any(|entry| entry.has_stood)
    }

    /// The connection is gone.
    pub(super) fn end(&mut self) {
        self.is_connected = false;
        self.orphaned.clear();
        for entry in self.topics.values_mut() {
            self.has_gap |= entry.has_stood;
            entry.awaited = 1;
            entry.stands(Standing::Awaited, &mut self.unsettled);
        }
    }

    /// True when nobody wants anything: the next wish has a connection opened again.
    pub(super) fn rests(&mut self) -> bool {
        let rests = self.topics.is_empty();
        self.has_begun &= !rests;
        self.is_connected &= !rests;
        rests
    }

    /// True while there is a connection.
    pub(super) const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// True when nobody wants anything.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Topics that are wanted, and those whose confirmation is still to come.
    pub(super) fn len(&self) -> usize {
        self.topics.len() + self.orphaned.len()
    }

    /// A new connection knows nothing: everything that is wanted must be subscribed again.
    pub(super) fn begin_again(&mut self) -> Vec<Topic> {
        self.end();
        self.is_connected = true;
        self.topics.keys().cloned().collect()
    }

    /// Everything that is wanted and `is_meant`.
    pub(super) fn topics(&self, is_meant: impl Fn(&Topic) -> bool) -> Vec<Topic> {
        self.topics.keys().filter(|topic| is_meant(topic)).cloned().collect()
    }

    /// Nothing that is still awaited will be confirmed, because of this error.
    pub(super) fn refuse_all(&mut self, error: &str) {
        for entry in self.topics.values_mut() {
            entry.stands(Standing::Refused(error.into()), &mut self.unsettled);
        }
    }

    /// The subscribers of a topic.
    pub(super) fn members(&self, topic: &Topic) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.topics.get(topic).into_iter().flat_map(|entry| entry.members.values())
    }

    /// Everybody who is subscribed to something, once or more.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &Arc<Subscriber>> {
        self.topics.values().flat_map(|entry| entry.members.values())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Standing, Subscriber, Table, Topic, Wish, watch};
    use crate::resp::pubsub::Kind;

    fn is_active(standing: &watch::Receiver<Standing>) -> bool {
        *standing.borrow() == Standing::Confirmed
    }

    fn channel(name: &'static str) -> Topic {
        (Kind::Channel, Bytes::from_static(name.as_bytes()))
    }

    fn member(id: u64) -> Arc<Subscriber> {
        Arc::new(Subscriber::new(id, 100, Arc::default()))
    }

    #[test]
    fn the_first_member_subscribes_and_the_last_one_unsubscribes() {
        let (one, two) =
            (Arc::new(Subscriber::new(1, 100, Arc::default())), Arc::new(Subscriber::new(2, 100, Arc::default())));
        let topic = (Kind::Channel, Bytes::from_static(b"a"));
        let mut table = Table::default();
        table.begin_again();
        let (wish, active) = table.join(topic.clone(), &one);
        assert_eq!(wish, Some(Wish::Subscribe(topic.clone())));
        assert!(!is_active(&active));
        assert_eq!(table.join(topic.clone(), &two).0, None);
        table.confirm(&topic);
        assert!(is_active(&active));
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
        assert!(!is_active(&active), "that was the first SUBSCRIBE's");
        table.confirm(&topic);
        assert!(is_active(&active));
        assert_eq!(table.begin_again(), std::slice::from_ref(&topic));
        assert!(!is_active(&active));
        table.confirm(&topic);
        assert!(is_active(&active));
    }

    #[test]
    fn without_a_connection_nothing_is_kept_but_what_is_wanted() {
        let one = Arc::new(Subscriber::new(1, 100, Arc::default()));
        let topic = |name: u32| (Kind::Channel, Bytes::from(name.to_string()));
        let mut table = Table::default();
        let (first, active) = table.join(topic(0), &one);
        assert_eq!(first, Some(Wish::Subscribe(topic(0))), "it has a connection opened");
        assert_eq!(table.begin_again(), [topic(0)]);
        table.confirm(&topic(0));
        table.end();
        assert!(!is_active(&active), "who comes now waits for the next connection");
        for name in 1..1000 {
            assert_eq!(table.join(topic(name), &one).0, None);
            assert_eq!(table.leave(&topic(name), 1), None);
        }
        assert!(table.orphaned.is_empty());
        assert_eq!(table.begin_again(), [topic(0)]);
        table.confirm(&topic(0));
        assert!(is_active(&active));
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

    #[test]
    fn what_is_refused_is_told_and_what_is_put_off_is_asked_for_again() {
        let (one, topic) = (member(1), channel("a"));
        let mut table = Table::default();
        table.begin_again();
        let (_, standing) = table.join(topic.clone(), &one);
        table.put_off(&topic);
        assert_eq!(*standing.borrow(), Standing::Awaited);
        assert!(table.again(&topic) && !table.again(&channel("other")));
        table.refuse(&topic, "NOPERM");
        assert_eq!(*standing.borrow(), Standing::Refused("NOPERM".into()));
        assert!(!table.is_whole_again(), "nobody missed anything");
    }

    #[test]
    fn a_gap_is_told_once_when_all_is_subscribed_again() {
        let (one, mut table) = (member(1), Table::default());
        table.begin_again();
        for topic in [channel("a"), channel("b")] {
            table.join(topic.clone(), &one);
            table.confirm(&topic);
        }
        assert!(!table.is_whole_again());
        table.begin_again();
        table.confirm(&channel("a"));
        assert!(!table.is_whole_again());
        table.confirm(&channel("b"));
        assert!(table.is_whole_again() && !table.is_whole_again());
        assert!(table.interrupt(&channel("a")) && table.again(&channel("a")) && !table.is_whole_again());
        table.confirm(&channel("a"));
        assert!(table.is_whole_again());
    }

    #[test]
    fn a_topic_that_moves_keeps_its_members_and_those_who_wait_for_it() {
        let (one, topic) = (member(1), channel("a"));
        let (mut from, mut to) = (Table::default(), Table::default());
        from.begin_again();
        let (_, standing) = from.join(topic.clone(), &one);
        from.confirm(&topic);
        let (entry, wish) = from.take(&topic).expect("wanted");
        assert_eq!(wish, Some(Wish::Unsubscribe(topic.clone())));
        assert!(from.rests() && from.topics(|_| true).is_empty());
        assert_eq!(to.give(topic.clone(), entry), Some(Wish::Subscribe(topic.clone())), "it has a connection opened");
        assert!(!is_active(&standing));
        assert_eq!(to.begin_again(), std::slice::from_ref(&topic));
        to.confirm(&topic);
        assert!(is_active(&standing) && to.is_whole_again() && to.everybody().count() == 1);
    }
}

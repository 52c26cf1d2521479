//! The subscriptions at one server of the upstream, and the way to the task that keeps the connection there
//! (`connection.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::subscriber::Subscriber;
use super::table::{Entry, Standing, Table, Topic, Wish};
use crate::resp::pubsub::Kind;
use crate::upstream::endpoint::Endpoint;

/// The subscriptions at one server.
#[derive(Debug)]
pub(super) struct Link {
    table: Mutex<Table>,
    wishes: UnboundedSender<Wish>,
    pub(super) server: Arc<Endpoint>,
    /// The server is the upstream as a whole, or that node of a cluster which takes what belongs to no slot.
    pub(super) is_home: bool,
    /// Topics as they were last counted.
    counted: Mutex<usize>,
    /// They are counted for operators.
    is_counted: bool,
}

impl Link {
    pub(super) fn open(server: Arc<Endpoint>, is_home: bool, is_counted: bool) -> (Arc<Self>, UnboundedReceiver<Wish>) {
        let (sender, wishes) = unbounded_channel();
        let (table, counted) = (Mutex::default(), Mutex::default());
        (Arc::new(Self { table, wishes: sender, server, is_home, counted, is_counted }), wishes)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wishes are made while the table is locked, so that their order is that of what happened to it.
    fn wish(&self, table: &Table, wish: Option<Wish>) {
        // The task lives as long as the link; without it there is nothing to pass on.
        wish.map(|wish| self.wishes.send(wish));
        self.count(table);
    }

    /// Tells operators how many topics there are.
    pub(super) fn count(&self, table: &Table) {
        if !self.is_counted {
            return;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *counted, table.len());
        self.server.metrics.hub.topics.inc_by(*counted as i64 - before as i64);
    }

    pub(super) fn join(&self, topic: &Topic, subscriber: &Arc<Subscriber>) -> watch::Receiver<Standing> {
        let mut table = self.table();
        let (wish, standing) = table.join(topic.clone(), subscriber);
        self.wish(&table, wish);
        standing
    }

    pub(super) fn leave(&self, topic: &Topic, id: u64) {
        let mut table = self.table();
        let wish = table.leave(topic, id);
        self.wish(&table, wish);
    }

    /// The topic is another server's from now on.
    pub(super) fn take(&self, topic: &Topic) -> Option<Entry> {
        let mut table = self.table();
        let (entry, wish) = table.take(topic)?;
        self.wish(&table, wish);
        Some(entry)
    }

    /// The topic was another server's.
    pub(super) fn give(&self, topic: Topic, entry: Entry) {
        let mut table = self.table();
        let wish = table.give(topic, entry);
        self.wish(&table, wish);
    }

    /// The server is not needed any more.
    pub(super) fn end(&self) {
        let mut table = self.table();
        table.is_ended = true;
        self.wish(&table, Some(Wish::End));
    }

    /// The connection is gone; true if messages are missed for it.
    pub(super) fn lose(&self) -> bool {
        let mut table = self.table();
        let had_some = table.is_connected() && table.has_stood();
        table.end();
        had_some
    }

    /// Those who are subscribed to a topic here.
    pub(super) fn members(&self, topic: &Topic) -> Vec<Arc<Subscriber>> {
        self.table().members(topic).cloned().collect()
    }

    /// Those who are subscribed to something here, each once, by their ids.
    pub(super) fn everybody(&self) -> BTreeMap<u64, Arc<Subscriber>> {
        self.table().everybody().map(|subscriber| (subscriber.id, subscriber.clone())).collect()
    }

    /// The shard channels.
    pub(super) fn shards(&self) -> Vec<Topic> {
        self.table().topics(|topic| topic.0 == Kind::Shard)
    }
}

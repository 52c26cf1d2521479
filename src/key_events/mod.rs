//! Events of owned keys (keyspace notifications): who is subscribed to them, and what each of those is told.
//! `topics.rs` knows who is subscribed to what, `message.rs` how an event is told on each channel. Pure of sockets and
//! of what keys hold: whoever changes a key says what has happened, and a subscriber is told through its [`Hearer`].
//!
//! Invariants (docs/CONSISTENCY.md, C8):
//! - an event is told when what it left can be read, never before;
//! - whoever has been told that it is subscribed hears of every event from then on;
//! - while nobody listens, nothing is made ready for an event.

mod message;
mod topics;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::config;
use crate::resp::key_channels::may_notify;
use crate::resp::pubsub::{GAP, Kind};
use crate::telemetry::locked;
use crate::telemetry::metrics::KeyEventMetrics;
use message::Event;
use topics::{Member, Topics};

/// The event of a key that has changed in the store, it is not known how.
const CHANGED: &str = "changed";
/// The event of a key that is not there any more.
const DELETED: &str = "del";
/// The event of a key that has ended by itself.
const EXPIRED: &str = "expired";

/// How a subscriber is told.
pub trait Hearer: fmt::Debug + Send + Sync {
    /// This message has come for it, without its first byte (`*` in RESP2, `>` in RESP3).
    fn hears(&self, message: Bytes);
}

/// Says of a key whether it is owned.
pub type IsOwned = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

struct Owner(IsOwned);

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

/// The events of the process's owned keys.
#[derive(Debug)]
pub struct KeyEvents {
    /// `notify.keyspace`.
    is_on: AtomicBool,
    /// `notify.fields`.
    tells_fields: AtomicBool,
    /// The database that channels name.
    database: AtomicI64,
    /// How many subscriptions there are that an event may belong to.
    listening: AtomicUsize,
    topics: RwLock<Topics>,
    /// Which keys are owned; without it all are.
    owner: ArcSwapOption<Owner>,
    /// Notified when somebody listens and nobody has before.
    begun: Notify,
    /// The number of the last who listened.
    last: AtomicU64,
    metrics: Arc<KeyEventMetrics>,
}

impl KeyEvents {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(settings: &config::Notify, metrics: Arc<KeyEventMetrics>) -> Self {
        let events = Self {
            is_on: AtomicBool::new(false),
            tells_fields: AtomicBool::new(false),
            database: AtomicI64::new(0),
            listening: AtomicUsize::new(0),
            topics: RwLock::default(),
            owner: ArcSwapOption::empty(),
            begun: Notify::new(),
            last: AtomicU64::new(0),
            metrics,
        };
        events.configure(settings);
        events
    }

    /// From now on events are told by these settings.
    pub fn configure(&self, settings: &config::Notify) {
        self.tells_fields.store(settings.fields, SeqCst);
        if settings.keyspace && !self.is_on.swap(true, SeqCst) && !self.is_idle() {
            self.begun.notify_one();
        }
        self.is_on.store(settings.keyspace, SeqCst);
    }

    /// From now on channels name this database.
    pub fn are_of(&self, database: i64) {
        self.database.store(database, SeqCst);
    }

    /// From now on these keys are owned.
    pub fn own(&self, is_owned: IsOwned) {
        self.owner.store(Some(Arc::new(Owner(is_owned))));
    }

    /// True while nobody would hear of an event.
    #[inline]
    pub fn is_idle(&self) -> bool {
        !self.is_on.load(Relaxed) || self.listening.load(SeqCst) == 0
    }

    /// This has happened to a key, and what it has become can be read. `fields` are those of a hash that it is about.
    pub fn tell(&self, key: &[u8], name: &str, fields: &[Bytes]) {
        if self.is_idle() {
            return;
        }
        let tells_fields = self.tells_fields.load(Relaxed);
        let event = Event { database: self.database.load(Relaxed), key, name, fields };
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let mut told = 0;
        message::each(&event, tells_fields, |channel, payload| told += topics.tell(channel, payload));
        self.metrics.events.inc_by(told);
    }

    /// A key has changed in the store, it is not known how, and what it has become can be read. One that is the
    /// upstream's now is told of there.
    pub fn changed(&self, key: &[u8]) {
        self.tell_owned(key, CHANGED);
    }

    /// The same of a key that is known to be gone.
    pub fn gone(&self, key: &[u8]) {
        self.tell_owned(key, DELETED);
    }

    /// The same of a key that has ended by itself.
    pub fn expired(&self, key: &[u8]) {
        self.tell_owned(key, EXPIRED);
    }

    fn tell_owned(&self, key: &[u8], name: &str) {
        if !self.is_idle() && self.owner.load().as_ref().is_none_or(|owner| (owner.0)(key)) {
            self.tell(key, name, &[]);
        }
    }

    /// Keys may have changed, it is not known which: those who listen to events and for that are told that they may
    /// have missed some.
    pub fn missed(&self) {
        if !self.is_idle() {
            self.topics.read().unwrap_or_else(PoisonError::into_inner).tell_gap();
        }
    }

    /// Of so many keys it is known when they end.
    pub fn note_expiries(&self, count: usize) {
        self.metrics.expiries.set(count as i64);
    }

    /// Waits until somebody listens where nobody has before.
    pub async fn begin(&self) {
        self.begun.notified().await;
    }

    /// Does this to the topics, and counts what listens then.
    fn change(&self, f: impl FnOnce(&mut Topics)) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        f(&mut topics);
        let listening = topics.listening();
        self.metrics.subscriptions.set(listening as i64);
        if self.listening.swap(listening, SeqCst) == 0 && !self.is_idle() {
            self.begun.notify_one();
        }
    }
}

impl Default for KeyEvents {
    /// For what is tested without subscribers.
    fn default() -> Self {
        Self::new(&config::Notify::default(), Arc::default())
    }
}

/// One who may listen, with what it is subscribed to; that ends with this.
#[derive(Debug)]
pub struct Listening {
    events: Arc<KeyEvents>,
    member: Member,
    /// What of its subscriptions an event may belong to, and that to the notice of a gap.
    topics: Mutex<HashSet<(Kind, Bytes)>>,
}

impl Listening {
    /// It is subscribed to nothing.
    #[must_use]
    pub fn new(events: Arc<KeyEvents>, hearer: Arc<dyn Hearer>) -> Self {
        let member = Member { number: events.last.fetch_add(1, Relaxed), hearer };
        Self { events, member, topics: Mutex::default() }
    }

    /// From now on it is subscribed to this, or is not.
    pub fn subscribes(&self, kind: Kind, name: &[u8], on: bool) {
        if !is_of_interest(kind, name) {
            return;
        }
        let topic = (kind, Bytes::copy_from_slice(name));
        let mut topics = locked(&self.topics);
        match on {
            true if topics.insert(topic.clone()) => self.events.change(|all| all.join(topic, &self.member)),
            false if topics.remove(&topic) => self.events.change(|all| all.leave(&topic, self.member.number)),
            _ => {}
        }
    }

    /// From now on it is subscribed to these alone.
    pub fn is_subscribed_to(&self, names: &[(Kind, Bytes)]) {
        let before = locked(&self.topics).clone();
        let ended = before.iter().filter(|topic| !names.contains(topic));
        ended.for_each(|(kind, name)| self.subscribes(*kind, name, false));
        names.iter().for_each(|(kind, name)| self.subscribes(*kind, name, true));
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let topics = std::mem::take(&mut *locked(&self.topics));
        if !topics.is_empty() {
            self.events.change(|all| topics.iter().for_each(|topic| all.leave(topic, self.member.number)));
        }
    }
}

/// True for what an event may belong to, and for the notice that some were missed.
fn is_of_interest(kind: Kind, name: &[u8]) -> bool {
    may_notify(kind, name) || kind == Kind::Channel && name == GAP
}

#[cfg(test)]
mod tests;

//! Who is connected: every client of the process, on whichever worker thread, for CLIENT LIST, KILL and UNBLOCK.
//! Knows what a client said of itself and the states it is in; never its requests or replies.

mod census;
mod filter;
mod flags;
mod generation;
mod invalidations;
mod line;
mod monitors;
mod summons;
mod told;
mod traffic;
mod untold;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

pub use census::Census;
pub use filter::{Asker, Filter, Listing};
pub use generation::Generation;
pub use invalidations::Invalidations;
pub use monitors::{Monitors, Unread, Watching};
pub use summons::Summons;
use told::News;
pub use told::{OwnNews, Told};
pub use traffic::{Held, Traffic};

use crate::telemetry::client_memory::{Buffers, Holding};
use crate::telemetry::clock::{Tick, millis};
use crate::telemetry::{locked, shown};

/// A quarter of a minute, in milliseconds.
const QUARTER: u64 = 15_000;

/// So many bytes of a name are told.
const LONGEST_NAME: usize = 512;

/// Every client of the process.
#[derive(Debug, Default)]
pub struct Registry {
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    last: AtomicU64,
    buffers: Arc<Buffers>,
    /// When the last quarter of a minute ended: a [`Tick`].
    marked_at: AtomicU64,
    /// Those that monitor.
    pub monitors: Arc<Monitors>,
}

/// One client, as the others may see it.
#[derive(Debug)]
pub struct Peer {
    /// Counts up over the life of the process; `CLIENT ID`.
    pub id: u64,
    /// The client's address and ours.
    pub addresses: (String, String),
    fd: i32,
    /// The number of the worker thread that serves it.
    worker: usize,
    since: Tick,
    /// When its last batch of requests came, in milliseconds of the clock.
    seen: AtomicU64,
    /// The id of its last command in the command table, plus one.
    command: AtomicUsize,
    killed: AtomicBool,
    /// When something was last written to a client that asks for nothing.
    told: AtomicU64,
    /// What it holds in memory.
    pub holding: Arc<Holding>,
    /// Its buffers, and what it has sent and received.
    pub traffic: Traffic,
    /// Since when it has read nothing of what waits for it; 0 while it reads.
    stalled_since: AtomicU64,
    waker: Mutex<Option<Waker>>,
    state: Mutex<State>,
    /// Those who ask for a connection of its own.
    summons: Summons,
    /// What it is to be told of the keys of others.
    pub invalidations: Invalidations,
    /// What it is to be told of the owned keys that it keeps.
    pub own_news: OwnNews,
}

/// The states a client is in, as `CLIENT LIST` shows them.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// `CLIENT SETNAME`.
    pub name: Bytes,
    /// `CLIENT SETINFO LIB-NAME`.
    pub lib_name: Bytes,
    /// `CLIENT SETINFO LIB-VER`.
    pub lib_ver: Bytes,
    /// The user that it authenticated as.
    pub user: String,
    /// Its database.
    pub db: i64,
    /// Its RESP version.
    pub resp: i64,
    /// Channels, patterns and shard channels.
    pub subscribed: [usize; 3],
    /// Commands queued since MULTI.
    pub queued: Option<usize>,
    /// The upstream's id of its own connection, while it has one.
    pub connection: Option<i64>,
    /// The node of a cluster that it leads to.
    pub node: Option<Arc<str>>,
    /// Waits in a blocking command.
    pub blocked: bool,
    /// `MONITOR`.
    pub monitor: bool,
    /// It follows the upstream (`SYNC`, `PSYNC`).
    pub replica: bool,
    /// `CLIENT TRACKING ON`, and the client that its invalidations go to.
    pub tracking: bool,
    /// `CLIENT TRACKING ON REDIRECT id`.
    pub redirect: Option<u64>,
    /// `CLIENT NO-EVICT ON`.
    pub no_evict: bool,
    /// `CLIENT TRACKING ON BCAST`.
    pub broadcasts: bool,
    /// `CLIENT NO-TOUCH ON`.
    pub no_touch: bool,
    /// `READONLY`.
    pub readonly: bool,
    /// `CLIENT IMPORT-SOURCE ON`.
    pub import: bool,
    /// `CLIENT CAPA redirect`.
    pub redirects: bool,
    /// Keys that it watches; one that it watches twice counts twice.
    pub watching: usize,
}

impl State {
    /// True while it is subscribed to anything.
    fn subscribes(&self) -> bool {
        self.subscribed != [0; 3]
    }
}

/// Takes the client off the list when dropped.
#[derive(Debug)]
pub struct Listed {
    registry: Arc<Registry>,
    /// The client.
    pub peer: Arc<Peer>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        locked(&self.registry.peers).remove(&self.peer.id);
        self.peer.summons.end();
    }
}

impl Registry {
    /// An empty registry; what clients hold is counted in `buffers`.
    #[must_use]
    pub fn new(buffers: Arc<Buffers>) -> Self {
        Self { buffers, ..Self::default() }
    }

    /// Lists a new client of these addresses (its own, and ours) and this descriptor, which this worker serves.
    pub fn list(self: &Arc<Self>, addresses: (String, String), fd: i32, worker: usize, state: State) -> Listed {
        let id = self.last.fetch_add(1, Relaxed) + 1;
        let now = Tick::now();
        let peer = Arc::new(Peer {
            id,
            addresses,
            fd,
            worker,
            since: now,
            seen: AtomicU64::new(now.as_ms()),
            command: AtomicUsize::new(0),
            killed: AtomicBool::new(false),
            told: AtomicU64::new(0),
            traffic: Traffic::default(),
            holding: Arc::new(Holding::among(self.buffers.clone())),
            stalled_since: AtomicU64::new(0),
            waker: Mutex::default(),
            state: Mutex::new(state),
            summons: Summons::default(),
            invalidations: Invalidations::default(),
            own_news: OwnNews::default(),
        });
        locked(&self.peers).insert(id, peer.clone());
        Listed { registry: self.clone(), peer }
    }

    /// Notes at the end of each quarter of a minute how much each has asked; to be called more often.
    pub fn mark(&self, now: Tick) {
        if now.since(Tick::from_ms(self.marked_at.load(Relaxed))) >= QUARTER {
            self.marked_at.store(now.as_ms(), Relaxed);
            locked(&self.peers).values().for_each(|peer| peer.traffic.mark());
        }
    }

    /// The client of this id.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<Peer>> {
        locked(&self.peers).get(&id).cloned()
    }

    /// The clients that match and have not been killed, in the order in which they connected.
    #[must_use]
    pub fn matching(&self, is_match: impl Fn(&Peer) -> bool) -> Vec<Arc<Peer>> {
        locked(&self.peers).values().filter(|peer| !peer.is_killed() && is_match(peer)).cloned().collect()
    }
}

impl Peer {
    /// Changes its state.
    pub fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = locked(&self.state);
        change(&mut state);
        self.holding.note_words(state.name.len() + state.lib_name.len() + state.lib_ver.len());
    }

    /// True when it has asked nothing for longer than `time` and waits for nothing: neither for messages nor for a
    /// blocking command.
    #[must_use]
    pub fn is_idle_for(&self, time: Duration, now: Tick) -> bool {
        let awaits = |state: &State| state.blocked || state.monitor || state.replica || state.subscribes();
        now.since(self.seen()) > millis(time) && !self.read(awaits)
    }

    fn seen(&self) -> Tick {
        Tick::from_ms(self.seen.load(Relaxed))
    }

    /// When it last asked for something, or was sent something that it listens to.
    fn heard(&self) -> Tick {
        Tick::from_ms(self.seen.load(Relaxed).max(self.told.load(Relaxed)))
    }

    /// Milliseconds since it connected.
    #[must_use]
    pub fn age(&self, now: Tick) -> u64 {
        now.since(self.since)
    }

    /// Milliseconds since it last asked for something, or was sent something that it listens to.
    #[must_use]
    pub fn idle(&self, now: Tick) -> u64 {
        now.since(self.heard())
    }

    /// The letters of its states, as CLIENT LIST has them.
    #[must_use]
    pub fn flags(&self) -> String {
        self.read(|state| flags::of(self, state))
    }

    /// Notes that something was written to it for which it has not asked.
    pub fn is_told(&self, now: Tick) {
        self.told.store(now.as_ms(), Relaxed);
    }

    /// True while it subscribes or monitors.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.read(|state| state.monitor || state.subscribes())
    }

    /// True while it follows the upstream.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        self.read(|state| state.replica)
    }

    /// Notes that nothing could be written to it at `now`, or that something was.
    pub fn stalls(&self, now: Option<Tick>) {
        match now {
            Some(now) if self.stalled_since.load(Relaxed) == 0 => self.stalled_since.store(now.as_ms().max(1), Relaxed),
            Some(_) => {}
            None => self.stalled_since.store(0, Relaxed),
        }
    }

    /// Since when it has read nothing of what waits for it.
    #[must_use]
    pub fn stalled_since(&self) -> Option<Tick> {
        Some(self.stalled_since.load(Relaxed)).filter(|since| *since > 0).map(Tick::from_ms)
    }

    /// The beginning of its name (CLIENT SETNAME), for logs: a name may be as long as a request.
    #[must_use]
    pub fn name(&self) -> String {
        self.read(|state| shown(&state.name, LONGEST_NAME))
    }

    /// Reads its state.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&locked(&self.state))
    }

    /// Notes its last batch of requests, and the last command's id if the command is known.
    pub fn saw(&self, now: Tick, command: Option<usize>) {
        self.seen.store(now.as_ms(), Relaxed);
        self.command.store(command.map_or(0, |command| command + 1), Relaxed);
    }

    /// Ends it, as soon as its task runs.
    pub fn kill(&self) {
        self.killed.store(true, Relaxed);
        self.holding.cut();
        if let Some(waker) = locked(&self.waker).take() {
            waker.wake();
        }
    }

    /// Asks it for a connection of its own at the upstream; the upstream's id of that comes when its task has one, or
    /// an error when it is gone.
    pub fn summon(&self) -> oneshot::Receiver<Option<i64>> {
        let answer = self.summons.add();
        if let Some(waker) = &*locked(&self.waker) {
            waker.wake_by_ref();
        }
        answer
    }

    /// Tells it that these keys of another client have changed, an array of them, or that any may have.
    pub fn invalidate(&self, keys: Option<Bytes>) {
        self.invalidations.add(keys);
        if let Some(waker) = &*locked(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// Tells it something of the owned keys that it keeps.
    fn hears(&self, news: News) {
        self.own_news.add(news);
        if let Some(waker) = &*locked(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// True once it has left.
    pub fn is_gone(&self) -> bool {
        self.summons.is_over()
    }

    /// True while somebody waits for that.
    pub fn is_summoned(&self) -> bool {
        self.summons.is_any()
    }

    /// Tells those who wait that this is the upstream's id of its connection.
    pub fn answer_summons(&self, connection: Option<i64>) {
        self.summons.answer(connection);
    }

    /// True once it has been killed.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// Returns when it has been killed; for its own task.
    pub async fn killed(&self) {
        std::future::poll_fn(|cx| {
            self.enroll(cx);
            if self.is_killed() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Lets [`Peer::kill`] wake the task of `cx`.
    pub fn enroll(&self, cx: &Context<'_>) {
        *locked(&self.waker) = Some(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Asker, Filter, Generation, Registry, State};

    fn words(text: &str) -> Vec<&[u8]> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::as_bytes).collect()
    }

    fn filter(text: &str) -> Result<Filter, String> {
        let is_user = |user: &str| Some(user == "default");
        let asker = Asker { id: 9, generation: Generation::of("redis", "7.0.15"), is_user: &is_user };
        Filter::of_kill(&words(text), &asker)
    }

    #[test]
    fn clients_are_found_by_what_they_are_while_they_live() {
        let registry = Arc::new(Registry::default());
        let state = || State { user: "default".into(), ..State::default() };
        let one = registry.list(("1.1.1.1:1".into(), "2.2.2.2:2".into()), 8, 0, state());
        let two = registry.list(("1.1.1.1:3".into(), "2.2.2.2:2".into()), 9, 0, state());
        two.peer.update(|state| state.subscribed = [1, 0, 0]);
        let found = |text: &str| -> Vec<u64> {
            let filter = filter(text).expect("a filter");
            registry.matching(|peer| filter.matches(peer)).iter().map(|peer| peer.id).collect()
        };
        assert_eq!(found("ID 1"), [1]);
        assert_eq!(found("TYPE pubsub"), [2]);
        assert_eq!(found("type normal"), [1]);
        assert_eq!(found("LADDR 2.2.2.2:2"), [1, 2]);
        assert_eq!(found("ADDR 1.1.1.1:3 USER default"), [2]);
        assert_eq!(found("ADDR 1.1.1.1:3 ID 1"), [0_u64; 0]);
        two.peer.kill();
        assert_eq!(found("LADDR 2.2.2.2:2"), [1]);
        drop(one);
        assert_eq!(found("LADDR 2.2.2.2:2"), [0_u64; 0]);
    }

    #[test]
    fn faulty_filters_speak_redis() {
        for (text, expected) in [
            ("ID 0", "ERR client-id should be greater than 0"),
            ("ID x", "ERR client-id should be greater than 0"),
            ("TYPE foo", "ERR Unknown client type 'foo'"),
            ("USER nosuch", "ERR No such user 'nosuch'"),
            ("SKIPME maybe", "ERR syntax error"),
            ("ID 1 FOO", "ERR syntax error"),
            ("FOO 1", "ERR syntax error"),
            ("MAXAGE 5", "ERR syntax error"),
            ("NOT-ID 5", "ERR syntax error"),
        ] {
            assert_eq!(filter(text).err().as_deref(), Some(expected), "{text}");
        }
    }
}

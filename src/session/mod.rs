//! What the sidecar remembers of one client: who it is (`peer`, `user`, `group`), where its requests go (`way`), how
//! fast it asks (`pace`), and what becomes of its replies (`reply`). Everything here is read by `dispatch` or
//! `transaction` and by `server`; what the client's task alone needs lies in `server/client`, and what one transaction
//! needs in `transaction`.

mod beside;
mod events;
mod policy;
mod recency;
mod rights;
mod tracking;
mod tracks;
mod upstream_state;
mod waits;
mod way;
mod writes;
mod written;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use beside::Beside;
use events::Events;
pub use policy::Policy;
pub use recency::Recency;
pub use rights::Rights;
pub use tracking::with_ear;
pub use tracks::Tracks;
pub use upstream_state::{Redirect, Replica};
pub use way::Way;
pub use writes::{Writes, joined};
pub use written::Written;

use crate::access::{Access, DEFAULT_USER, User};
use crate::cache::{Author, By};
use crate::clients::{Peer, State};
use crate::command::Spec;
use crate::errors;
use crate::quota::Asker;
use crate::resp::Proto;
use crate::telemetry::clock::{Moment, Tick};
use crate::telemetry::metrics::{CommandFamily, Tally};
use crate::telemetry::refusals::{Who, shown};
use crate::telemetry::{Pace, PassedReader};
use crate::upstream::{Account, Batch, Group, Inbox, Lane, Loss, Membership, Pinned, Rider, Subscriber};
use crate::upstream::{Ticket, To, Upstream};

/// What is answered for requests on a connection that is lost, by a client that is not lost with it.
const LOSS: Loss = Loss { sent: errors::upstream::LOST, unsent: errors::upstream::LOST_UNSENT };

/// What becomes of replies (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// They are sent.
    #[default]
    On,
    /// They are dropped.
    Off,
    /// The next one is dropped.
    Skip,
}

/// What another edition of the users says of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// It may do what it could do before.
    Same,
    /// Something else.
    Changed,
    /// Its user is not there any more.
    Gone,
}

/// One client's state.
#[derive(Debug)]
pub struct Session {
    /// The client as the others see it.
    pub peer: Arc<Peer>,
    /// What it holds in memory.
    pub account: Rc<Account>,
    /// Protocol, database and login, which choose its lanes.
    pub group: Group,
    /// The group it began in.
    home: Group,
    /// The clock of the batch that is being answered: one look per batch, not per command.
    pub now: Tick,
    /// Somebody looks on at what is asked.
    pub is_shown: bool,
    /// The same look, for what is measured.
    pub begun: Moment,
    /// Set when the connection is to be closed once everything owed has been written.
    pub closing: bool,
    /// Commands counted since the last batch.
    pub tally: Tally,
    /// Which of its commands is looked at for what passes through most.
    pub passed: PassedReader,
    /// How fast it asks.
    pub pace: Pace,
    /// Its MULTI came too fast: what EXEC is refused with.
    pub discarded: Option<String>,
    /// As whom it authenticated (`auth.mode = "users"`).
    pub user: Option<Arc<User>>,
    /// The upstream lets it in (`auth.mode = "upstream"`).
    pub is_proven: bool,
    /// What the upstream lets its user do, of what is answered here (`auth.mode = "upstream"`).
    pub rights: Rights,
    /// The last command's row of the command table.
    pub command: Option<usize>,
    /// The same, for the next request: clients repeat themselves.
    pub spec: Option<&'static Spec>,
    /// The number of the table that it is a row of.
    pub table: u64,
    /// Which server takes the last command, where the upstream is a cluster.
    pub to: To,
    /// Where it has written and not been answered, where the upstream is a cluster.
    pub written: Written,
    /// Keys of the near cache that its requests may change.
    pub writes: Writes,
    /// What it wrote and read lately, where reads may go to replicas.
    pub recency: Recency,
    /// The number of what the upstream was when everything of this client had been answered.
    edition: u64,
    /// It last waited until then for the nodes of the upstream's cluster to be known.
    pub awaited_nodes: Option<Instant>,
    /// What becomes of replies.
    pub reply: ReplyMode,
    /// The user that it is without AUTH.
    first_user: Option<Arc<User>>,
    /// Its place in a hub, once it has subscribed in one (`pubsub.mode = "shared"`, or behind a cluster).
    membership: Option<Membership>,
    /// What it hears of owned keys, once it has subscribed.
    events: Option<Events>,
    /// What it keeps of owned keys, if it tracks.
    tracks: Option<Box<Tracks>>,
    /// Where its requests go.
    pub way: Way,
}

impl Session {
    /// A new client that begins in the group `home` as `first_user`.
    #[must_use]
    pub fn new(peer: Arc<Peer>, home: Group, first_user: Option<Arc<User>>) -> Self {
        Self {
            account: Account::of(peer.holding.clone()),
            peer,
            group: home.clone(),
            home,
            now: Tick::now(),
            is_shown: false,
            begun: Moment::now(),
            closing: false,
            tally: Tally::default(),
            passed: PassedReader::default(),
            pace: Pace::default(),
            discarded: None,
            user: first_user.clone(),
            first_user,
            is_proven: false,
            rights: Rights::default(),
            command: None,
            spec: None,
            table: 0,
            to: To::Home,
            written: Written::Nowhere,
            writes: Writes::default(),
            recency: Recency::default(),
            edition: 0,
            awaited_nodes: None,
            reply: ReplyMode::On,
            membership: None,
            events: None,
            tracks: None,
            way: Way::default(),
        }
    }

    /// What kind of command the last one is.
    #[inline]
    pub fn family(&self) -> CommandFamily {
        self.spec.map_or(CommandFamily::Other, |spec| spec.family)
    }

    /// Goes over to another edition of the users.
    pub fn adopt(&mut self, access: &Access) -> Rules {
        self.first_user = access.first_user();
        let Some(user) = &self.user else { return Rules::Same };
        let Some(found) = access.find(&user.name) else {
            self.user = None;
            return Rules::Gone;
        };
        let rules = if found.has_rules_of(user) { Rules::Same } else { Rules::Changed };
        self.user = Some(found);
        rules
    }

    /// Who it is, for logs.
    #[must_use]
    pub fn who(&self) -> Who {
        let user = self.peer.read(|state| shown(state.user.as_bytes()));
        Who { address: self.peer.addresses.0.clone(), user }
    }

    /// Its command, which may need loads.
    #[must_use]
    pub fn asker(&self) -> Asker {
        let asker = Asker::new(self.user.as_ref().map(|user| user.quota.clone()), self.now);
        asker.traced(self.account.trace.get())
    }

    /// The client, as the author of a write by this command.
    #[must_use]
    pub fn author(&self, command: &str) -> Arc<Author> {
        Arc::new(Author { client: self.peer.id, name: self.peer.name(), command: command.to_owned() })
    }

    /// The same, with what of the command is traced.
    #[must_use]
    pub fn writer(&self, command: &str) -> By {
        By { author: self.author(command), trace: self.account.trace.get() }
    }

    /// The client's protocol.
    #[must_use]
    pub const fn proto(&self) -> Proto {
        self.group.proto
    }

    /// Moves the client to other lanes; with a dedicated connection it stays on that.
    pub fn regroup(&mut self, group: Group) {
        if self.group != group {
            self.peer.update(|state| (state.db, state.resp) = (group.db, group.proto.number()));
            if self.group.login != group.login {
                self.rights = Rights::default();
            }
            self.group = group;
            self.way.choose_again();
        }
    }

    /// The lane of the client's requests: the same one until its protocol, database or login changes.
    pub fn lane(&mut self, upstream: &Upstream) -> &Lane {
        let unheard = self.unheard();
        let (group, client, account) = (&self.group, self.peer.id, &self.account);
        let spread = upstream.is_cluster().then_some(|own: &[&Pinned]| {
            let (group, account) = (group.clone(), account.clone());
            upstream.lane_around(own, Rider { group, client, account, is_alone: false, unheard })
        });
        self.way.lane(|| upstream.lane(group, client, account), spread)
    }

    /// True when the upstream is not what it was when the client chose its lane: what it asks next must wait until
    /// everything before has been answered.
    #[inline]
    pub fn is_outdated(&self, upstream: &Upstream) -> bool {
        self.edition != upstream.edition() && !self.way.state().is_raw()
    }

    /// The number of what the upstream was when everything of this client had been answered.
    #[must_use]
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// Goes by what the upstream is now. For a client with nothing under way.
    pub fn catch_up(&mut self, upstream: &Upstream) {
        self.edition = upstream.edition();
        self.way.catch_up();
    }

    /// Leaves a lane on which other clients' requests hold it up, if it can, or goes back when that is over. For a
    /// client with nothing under way.
    pub fn leave_slow_lane(&mut self) {
        if self.way.should_leave_lane() {
            self.way.choose_again();
        }
    }

    /// Sends a batch to where the client's requests go. On a dedicated connection nobody else has a clock for it; and
    /// should that connection be lost, a client for which nothing was kept there, but for what an unknown command may
    /// have left, or what can be begun again, learns what becomes of each request, and goes on.
    pub fn submit(&mut self, upstream: &Upstream, mut batch: Batch) -> Ticket {
        if self.way.is_dedicated() {
            batch.is_timed = !self.way.may_wait();
            batch.loss = (self.keeps_nothing() || self.way.tracking().is_some()).then_some(LOSS);
        }
        self.lane(upstream).submit(batch)
    }

    /// True when the upstream keeps nothing that is known for it, though it may have a connection of its own.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        self.way.state().keeps_nothing() && self.subscribed() == [0; 3]
    }

    /// Its own connection is lost. Whatever the upstream kept for it there is gone and cannot be made again behind its
    /// back, so the client is closed; one for which nothing was kept goes on without a connection of its own.
    pub fn lose_connection(&mut self) {
        if self.way.tracking().is_some() {
            // What it tracks is begun again over other connections.
            self.way.connection().into_iter().for_each(Pinned::give_up);
        } else if self.way.is_dedicated() && !self.keeps_nothing() {
            self.closing = true;
        } else {
            self.way.close();
        }
    }

    /// Channels, patterns and shard channels that it is subscribed to.
    #[must_use]
    pub fn subscribed(&self) -> [usize; 3] {
        match &self.membership {
            Some(membership) => membership.subscriber.counts(),
            None => self.way.inbox().map_or([0; 3], Inbox::subscribed),
        }
    }

    /// True while it may only do what a subscriber may.
    #[must_use]
    pub fn is_resp2_subscriber(&self) -> bool {
        self.proto() == Proto::Resp2 && self.subscribed() != [0; 3]
    }

    /// The client in a hub, if it ever subscribed there.
    #[must_use]
    pub fn subscriber(&self) -> Option<&Arc<Subscriber>> {
        self.membership.as_ref().map(|membership| &membership.subscriber)
    }

    /// The client in a hub, from now on: in the one that it is in, or in another.
    pub fn member(&mut self, another: impl FnOnce(&Self) -> Membership) -> &Membership {
        let membership = self.membership.take().unwrap_or_else(|| another(self));
        self.membership.insert(membership)
    }

    /// Tells the other clients what it is subscribed to.
    pub fn tell_subscribed(&self) {
        let subscribed = self.subscribed();
        self.peer.update(|state| state.subscribed = subscribed);
    }

    /// Takes a name, if there is one (`HELLO ... SETNAME`).
    pub fn rename(&self, name: Option<Bytes>) {
        if let Some(name) = name {
            self.take_name(name);
        }
    }

    /// Takes a name, which its own connection has at the upstream, too, unless nothing may be said there now.
    pub fn take_name(&self, name: Bytes) {
        self.account.rename(name.clone());
        self.peer.update(|state| state.name = name);
        let is_deaf = self.way.state().is_raw() || self.is_resp2_subscriber();
        if let Some(own) = self.way.connection().filter(|_| !is_deaf) {
            own.take_name(self.has_said_caching());
        }
    }

    /// Forgets everything that `RESET` forgets.
    pub fn reset(&mut self) {
        self.way = Way::default();
        (self.membership, self.events, self.tracks) = (None, None, None);
        self.reply = ReplyMode::On;
        self.regroup(self.home.clone());
        self.user = self.first_user.clone();
        self.is_proven = false;
        self.account.rename(Bytes::new());
        self.peer.update(|state| {
            *state = State {
                lib_name: std::mem::take(&mut state.lib_name),
                lib_ver: std::mem::take(&mut state.lib_ver),
                user: DEFAULT_USER.into(),
                db: state.db,
                resp: state.resp,
                ..State::default()
            };
        });
    }
}

//! What the sidecar remembers of one client connection.

mod hold;
mod pace;
mod waits;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

pub use hold::{Hold, Redirect};
pub use pace::{Pace, Policy};
pub use waits::Waits;

use crate::access::{Access, DEFAULT_USER, User};
use crate::clients::{Peer, State};
use crate::command::Spec;
use crate::resp::Proto;
use crate::route::Unknown;
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::Tally;
use crate::telemetry::refusals::{Who, shown};
use crate::upstream::{
    Account, Batch, Group, Hub, Inbox, Lane, Loss, MAYBE_APPLIED, Member, Membership, Subscriber, Upstream,
};

/// What is answered for requests on a connection that is lost, by a client that is not lost with it.
const LOSS: Loss = Loss {
    sent: MAYBE_APPLIED,
    unsent: "LOADING hearthside: the upstream connection was lost; the command was not sent",
};

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
    pub now: u64,
    /// Set when the connection is to be closed once everything owed has been written.
    pub closing: bool,
    /// Commands counted since the last batch.
    pub tally: Tally,
    /// How fast it asks.
    pub pace: Pace,
    /// As whom it authenticated (`auth.mode = "users"`).
    pub user: Option<Arc<User>>,
    /// The upstream lets it in (`auth.mode = "upstream"`).
    pub is_proven: bool,
    /// What the upstream keeps for its login, while it is one of those who have shown it.
    pub login: Option<Member>,
    /// The last command's row of the command table.
    pub command: Option<usize>,
    /// The same, for the next request: clients repeat themselves.
    pub spec: Option<&'static Spec>,
    /// What becomes of replies.
    pub reply: ReplyMode,
    /// It has a connection of its own, for a transaction or because of `hold`.
    pub is_pinned: bool,
    /// Why all its commands go over its own connection.
    pub hold: Hold,
    /// Something that may wait is under way on its own connection: should the client leave, nobody waits for the reply.
    pub may_wait: bool,
    /// A command that the table does not know went over its own connection since this was last looked at.
    pub has_asked_unknown: bool,
    /// The user that it is without AUTH.
    first_user: Option<Arc<User>>,
    /// What may block, of all that a client that is held waits for.
    pub waits_for: Waits,
    inbox: Option<Inbox>,
    /// Its place in the hub, once it has subscribed (`pubsub.mode = "shared"`).
    membership: Option<Membership>,
    /// Where its requests go; chosen when it asks for the first time.
    pub lane: Option<Lane>,
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
            now: now_ms(),
            closing: false,
            tally: Tally::default(),
            pace: Pace::default(),
            user: first_user.clone(),
            first_user,
            is_proven: false,
            login: None,
            command: None,
            spec: None,
            reply: ReplyMode::On,
            is_pinned: false,
            hold: Hold::default(),
            waits_for: Waits::default(),
            may_wait: false,
            has_asked_unknown: false,
            inbox: None,
            membership: None,
            lane: None,
        }
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

    /// The client's protocol.
    #[must_use]
    pub const fn proto(&self) -> Proto {
        self.group.proto
    }

    /// Moves the client to other lanes; one that is held stays on its own.
    pub fn regroup(&mut self, group: Group) {
        if self.group != group {
            self.peer.update(|state| (state.db, state.resp) = (group.db, group.proto.number()));
            self.group = group;
            if !self.is_held() {
                self.lane = None;
            }
        }
    }

    /// True while all its commands go over a connection of its own.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.inbox.is_some()
    }

    /// Leaves a lane on which others' requests hold it up, if it can, or goes back when that is over. For a client with nothing
    /// under way.
    pub fn choose_lane(&mut self, upstream: &Upstream) {
        if self.lane.as_ref().is_some_and(Lane::should_be_left) {
            self.lane = Some(upstream.lane(&self.group, self.peer.id, &self.account));
        }
    }

    /// True while it has a lane for itself.
    #[must_use]
    pub fn has_private_lane(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.is_private)
    }

    /// From now on it has this lane for itself; without one it goes back to the shared ones. A client that is held stays.
    pub fn change_lane(&mut self, lane: Option<Lane>) {
        if !self.is_held() {
            self.lane = lane;
        }
    }

    /// From now on all commands go over `lane`, and `inbox` takes what comes unasked.
    pub fn hold_on(&mut self, lane: Lane, inbox: Inbox) {
        self.lane = Some(lane);
        self.inbox = Some(inbox);
    }

    /// True when the upstream keeps nothing that is known for it, though it may have a connection of its own.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        self.hold.keeps_nothing() && self.subscribed() == [0; 3]
    }

    /// A run for its lane. On a connection of its own nobody else has a clock for it; and should that be lost, who has
    /// nothing there but what an unknown command may have left is told what becomes of each request, and goes on.
    #[must_use]
    pub fn on_its_lane(&self, mut run: Batch) -> Batch {
        if self.is_held() {
            run.is_timed = !self.may_wait;
            run.loss = self.keeps_nothing().then_some(LOSS);
        }
        run
    }

    /// A command that the table does not know goes over its own connection.
    pub const fn asks_unknown(&mut self) {
        (self.hold.unknown, self.may_wait, self.has_asked_unknown) = (true, true, true);
    }

    /// A command that the table does not know has gone over its own connection, and may have left something there.
    pub const fn has_left(&mut self, unknown: Unknown) {
        match unknown {
            Unknown::Command => (self.hold.unknown, self.has_asked_unknown) = (true, true),
            Unknown::OfClient => self.hold.unknown_state = true,
        }
    }

    /// The client goes back to the shared lanes.
    pub fn let_go(&mut self) {
        self.lane = None;
        self.inbox = None;
    }

    /// Channels, patterns and shard channels that it is subscribed to.
    #[must_use]
    pub fn subscribed(&self) -> [usize; 3] {
        match &self.membership {
            Some(membership) => membership.subscriber.counts(),
            None => self.inbox.as_ref().map_or([0; 3], Inbox::subscribed),
        }
    }

    /// True while it may only do what a subscriber may.
    #[must_use]
    pub fn is_resp2_subscriber(&self) -> bool {
        self.proto() == Proto::Resp2
            && (self.inbox.is_some() || self.membership.is_some())
            && self.subscribed() != [0; 3]
    }

    /// The client in the hub, if it ever subscribed there.
    #[must_use]
    pub fn subscriber(&self) -> Option<&Arc<Subscriber>> {
        self.membership.as_ref().map(|membership| &membership.subscriber)
    }

    /// The client in the hub, from now on.
    pub fn member_of(&mut self, hub: &Arc<Hub>) -> Arc<Subscriber> {
        self.membership.get_or_insert_with(|| hub.member(self.peer.id, self.peer.holding.clone())).subscriber.clone()
    }

    /// Tells the other clients what it is subscribed to.
    pub fn tell_subscribed(&self) {
        let subscribed = self.subscribed();
        self.peer.update(|state| state.subscribed = subscribed);
    }

    /// Takes a name, if there is one (`HELLO ... SETNAME`).
    pub fn rename(&self, name: Option<Bytes>) {
        if let Some(name) = name {
            self.peer.update(|state| state.name = name);
        }
    }

    /// Forgets everything that `RESET` forgets.
    pub fn reset(&mut self) {
        self.let_go();
        self.membership = None;
        self.hold = Hold::default();
        self.reply = ReplyMode::On;
        self.regroup(self.home.clone());
        self.user = self.first_user.clone();
        self.is_proven = false;
        self.login = None;
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

//! A client's way to the upstream: where its next request goes, whether the client may wait there, what is lost with a
//! connection, and what is given back. This is the only place that knows it.
//!
//! ```text
//!            a transaction needs a connection         the upstream keeps a state for it
//!   Shared ----------------------------------> Lent ------------------------------------> Dedicated
//!   a lane <---------------------------------- a lane, and a connection                   a connection
//!     ^      the transaction is over                                                          |
//!     +---------------------------------------------------------------------------------------+
//!            the upstream keeps nothing any more
//! ```

use super::beside::Beside;
use super::upstream_state::UpstreamState;
use super::waits::Waits;
use crate::command::Request;
use crate::route::Unknown;
use crate::telemetry::clock::Tick;
use crate::upstream::{Inbox, Lane, Pinned};

/// How long after a very long reply, or a command that the table does not know, a client keeps a lane or a connection
/// for itself, in milliseconds.
const OWN_FOR: u64 = 10_000;

/// What a client has whose upstream keeps nothing for it.
static NOTHING: UpstreamState = UpstreamState::nothing();

/// Where a client's requests go.
#[derive(Debug, Default)]
pub struct Way(Road);

#[derive(Debug)]
enum Road {
    /// Everything goes to a lane, which is chosen when the client asks for the next time.
    Shared(Option<ChosenLane>),
    /// The transaction's commands go over this connection, and everything else to a lane.
    Lent(Option<ChosenLane>, Box<Own>),
    /// Everything goes over this connection, which is a lane of the client's own.
    Dedicated(Box<Own>, Waits),
}

#[derive(Debug)]
struct ChosenLane {
    lane: Lane,
    /// The client has the lane for itself until this moment; `None` if other clients have it, too.
    private_until: Option<Tick>,
}

/// A connection of the client's own, and what the upstream keeps there for the client.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) connection: Pinned,
    pub(super) state: UpstreamState,
    /// Where the upstream is a cluster: its connections to other nodes.
    pub(super) beside: Beside,
}

impl Own {
    fn new(connection: Pinned) -> Self {
        Self { connection, state: UpstreamState::nothing(), beside: Beside::default() }
    }

    fn is_kept(&self) -> bool {
        self.state.is_set() || self.connection.inbox.subscribed() != [0; 3]
    }
}

impl Default for Road {
    fn default() -> Self {
        Self::Shared(None)
    }
}

impl Way {
    /// Where the next request goes that is no part of a transaction; a lane is chosen if there is none. In a cluster a
    /// client's own connection leads to one of the nodes, and `spread` makes it part of a lane to all of them.
    pub fn lane(&mut self, choose: impl FnOnce() -> Lane, spread: Option<impl FnOnce(&[&Pinned]) -> Lane>) -> &Lane {
        match &mut self.0 {
            Road::Dedicated(own, _) => match spread.filter(|_| !own.state.is_raw()) {
                Some(spread) => own.beside.lane(&own.connection, spread),
                None => own.connection.lane(),
            },
            Road::Shared(chosen) | Road::Lent(chosen, _) => {
                &chosen.get_or_insert_with(|| ChosenLane { lane: choose(), private_until: None }).lane
            }
        }
    }

    /// The client's connections to other nodes of a cluster than its own one leads to, if its requests go over its own.
    #[must_use]
    pub fn beside(&self) -> Option<&Beside> {
        match &self.0 {
            Road::Dedicated(own, _) => Some(&own.beside),
            Road::Shared(_) | Road::Lent(..) => None,
        }
    }

    /// The same, to be changed.
    pub fn beside_mut(&mut self) -> Option<&mut Beside> {
        self.own_mut().map(|own| &mut own.beside)
    }

    /// The client has this connection, too.
    pub fn goes_beside(&mut self, connection: Pinned) {
        if let Some(own) = self.own_mut() {
            own.beside.add(connection);
        }
    }

    /// A connection of the client's that `leads` somewhere: its own one, or one beside it.
    pub fn own_to(&self, leads: impl Fn(&Pinned) -> bool) -> Option<&Pinned> {
        let own = self.own()?;
        if leads(&own.connection) { Some(&own.connection) } else { own.beside.find(leads) }
    }

    /// The connection that a transaction's commands go over.
    #[must_use]
    pub fn transacting(&self) -> Option<&Pinned> {
        let own = self.own()?;
        Some(own.beside.transacting().unwrap_or(&own.connection))
    }

    /// The same, to be changed.
    pub fn transacting_mut(&mut self) -> Option<&mut Pinned> {
        let own = self.own_mut()?;
        Some(own.beside.transacting_mut().unwrap_or(&mut own.connection))
    }

    /// A transaction goes on over a connection beside the client's own one that `leads` there; false if it has none.
    pub fn transacts_where(&mut self, leads: impl Fn(&Pinned) -> bool) -> bool {
        self.own_mut().is_some_and(|own| own.beside.transacts_where(leads))
    }

    /// A transaction goes on over this connection, to another node of a cluster.
    pub fn transacts_over(&mut self, connection: Pinned) {
        match &mut self.0 {
            Road::Shared(_) => {}
            Road::Lent(_, own) => own.connection = connection,
            Road::Dedicated(own, _) => own.beside.transacts_over(connection),
        }
    }

    /// The client's own connection, if it has one.
    #[must_use]
    pub fn connection(&self) -> Option<&Pinned> {
        self.own().map(|own| &own.connection)
    }

    /// The same, to be changed.
    pub fn connection_mut(&mut self) -> Option<&mut Pinned> {
        self.own_mut().map(|own| &mut own.connection)
    }

    /// What the upstream keeps for the client on its own connection, apart from subscriptions.
    #[must_use]
    pub fn state(&self) -> &UpstreamState {
        self.own().map_or(&NOTHING, |own| &own.state)
    }

    /// The same, to be changed; `None` for a client that has no connection for itself alone.
    pub fn state_mut(&mut self) -> Option<&mut UpstreamState> {
        self.own_mut().map(|own| &mut own.state)
    }

    pub(super) fn own(&self) -> Option<&Own> {
        match &self.0 {
            Road::Shared(_) => None,
            Road::Lent(_, own) | Road::Dedicated(own, _) => Some(own),
        }
    }

    pub(super) fn own_mut(&mut self) -> Option<&mut Own> {
        match &mut self.0 {
            Road::Shared(_) => None,
            Road::Lent(_, own) | Road::Dedicated(own, _) => Some(own),
        }
    }

    /// True while all of the client's requests go over its own connection.
    #[must_use]
    pub const fn is_dedicated(&self) -> bool {
        matches!(self.0, Road::Dedicated(..))
    }

    /// What comes unsolicited, while all requests go over the client's own connection.
    #[must_use]
    pub fn inbox(&self) -> Option<&Inbox> {
        match &self.0 {
            Road::Dedicated(own, _) => Some(&own.connection.inbox),
            Road::Shared(_) | Road::Lent(..) => None,
        }
    }

    /// A connection for a client that has none for itself alone.
    pub fn lend(&mut self, connection: Pinned) {
        if let Road::Shared(chosen) = &mut self.0 {
            self.0 = Road::Lent(chosen.take(), Box::new(Own::new(connection)));
        }
    }

    /// From now on everything goes over the connection that the client was lent.
    pub fn dedicate(&mut self) {
        self.0 = match std::mem::take(&mut self.0) {
            Road::Lent(_, own) => Road::Dedicated(own, Waits::default()),
            other => other,
        };
    }

    /// Decides again what the client's own connection is for. Returns the connection when nothing needs it any more:
    /// that is given back.
    #[must_use]
    pub fn settle(&mut self, has_transaction: bool) -> Option<Pinned> {
        let (chosen, own, waits) = match std::mem::take(&mut self.0) {
            Road::Shared(chosen) => {
                self.0 = Road::Shared(chosen);
                return None;
            }
            Road::Lent(chosen, own) => (chosen, own, Waits::default()),
            Road::Dedicated(own, waits) => (None, own, waits),
        };
        match () {
            () if own.is_kept() => self.0 = Road::Dedicated(own, waits),
            () if has_transaction => self.0 = Road::Lent(chosen, own),
            () => {
                self.0 = Road::Shared(chosen);
                return Some(own.connection);
            }
        }
        None
    }

    /// Closes the client's own connection, with everything that the upstream keeps for it.
    pub fn close(&mut self) {
        self.0 = match std::mem::take(&mut self.0) {
            Road::Shared(chosen) | Road::Lent(chosen, _) => Road::Shared(chosen),
            Road::Dedicated(..) => Road::Shared(None),
        };
    }

    /// The lane, where the client has one.
    const fn chosen(&self) -> Option<&ChosenLane> {
        match &self.0 {
            Road::Shared(chosen) | Road::Lent(chosen, _) => chosen.as_ref(),
            Road::Dedicated(..) => None,
        }
    }

    fn chosen_mut(&mut self) -> Option<&mut Option<ChosenLane>> {
        match &mut self.0 {
            Road::Shared(chosen) | Road::Lent(chosen, _) => Some(chosen),
            Road::Dedicated(..) => None,
        }
    }

    /// The client is in another group, or its lane does not move on: another lane is chosen.
    pub(super) fn choose_again(&mut self) {
        if let Some(chosen) = self.chosen_mut() {
            *chosen = None;
        }
        self.beside_mut().into_iter().for_each(Beside::choose_again);
    }

    /// The upstream is not what it was: another lane is chosen, unless the client has its lane for itself and that
    /// leads to what is left.
    pub(super) fn catch_up(&mut self) {
        let own = self.chosen_mut().and_then(Option::take).filter(|chosen| chosen.private_until.is_some());
        let own = own.and_then(|own| Some(ChosenLane { lane: own.lane.renewed()?, ..own }));
        self.choose_again();
        if let Some(chosen) = self.chosen_mut() {
            *chosen = own;
        }
    }

    /// True when other clients' requests hold the lane up.
    pub(super) fn should_leave_lane(&self) -> bool {
        self.chosen().is_some_and(|chosen| chosen.lane.should_be_left())
    }

    /// True for a client that could have a lane for itself, and has not.
    #[must_use]
    pub fn may_be_isolated(&self) -> bool {
        matches!(self.0, Road::Shared(_)) && self.chosen().is_none_or(|chosen| chosen.private_until.is_none())
    }

    /// The client has this lane for itself, for a while.
    pub fn isolate(&mut self, lane: Lane) {
        if let Some(chosen) = self.chosen_mut() {
            *chosen = Some(ChosenLane { lane, private_until: Some(Tick::now().plus(OWN_FOR)) });
        }
    }

    /// A very long reply has come: what the client has for a while, it has for that while from now on.
    pub fn prolong(&mut self) {
        match &mut self.0 {
            Road::Dedicated(own, _) => own.state.unknown = own.state.unknown.map(|_| Tick::now()),
            Road::Shared(chosen) | Road::Lent(chosen, _) => {
                if let Some(ChosenLane { private_until: Some(until), .. }) = chosen {
                    *until = Tick::now().plus(OWN_FOR);
                }
            }
        }
    }

    /// When the client loses what it has for a while, if it has something.
    #[must_use]
    pub fn until(&self) -> Option<Tick> {
        match &self.0 {
            Road::Dedicated(own, _) => own.state.unknown.map(|asked| asked.plus(OWN_FOR)),
            Road::Shared(chosen) | Road::Lent(chosen, _) => chosen.as_ref()?.private_until,
        }
    }

    /// That moment has passed. What a command that the table does not know may have left on the connection nobody
    /// knows, so the connection serves nobody else.
    pub fn expire(&mut self) {
        self.choose_again();
        if let Some(own) = self.own_mut()
            && own.state.unknown.take().is_some()
        {
            own.connection.moved();
        }
    }

    /// The upstream has accepted a command that changes what it keeps for the connection.
    pub fn accept(&mut self, request: &Request<'_>) {
        if let Some(state) = self.state_mut() {
            state.accept(request);
        }
    }

    /// A command that the table does not know has gone over the client's own connection, and may have left something
    /// there.
    pub fn has_left(&mut self, unknown: Unknown) {
        if let Some(state) = self.state_mut() {
            match unknown {
                Unknown::State => state.unknown_state = true,
                Unknown::Name | Unknown::Keys | Unknown::Right | Unknown::Conduct => state.unknown = Some(Tick::now()),
            }
        }
    }

    /// A command that the table does not know goes over the dedicated connection at the moment `now`, and may wait
    /// there.
    pub fn asks_unknown(&mut self, now: Tick) {
        if let Road::Dedicated(own, waits) = &mut self.0 {
            (own.state.unknown, waits.may_wait) = (Some(now), true);
        }
    }

    /// When a command that the table does not know last went over the dedicated connection, unless that is
    /// long ago.
    #[must_use]
    pub fn asked_unknown_at(&self) -> Option<Tick> {
        if self.is_dedicated() { self.state().unknown } else { None }
    }

    /// Notes a request that may block on the dedicated connection.
    pub fn note_wait(&mut self, request: &Request<'_>) {
        if let Road::Dedicated(_, waits) = &mut self.0 {
            waits.add(request);
        }
    }

    /// What is under way on the dedicated connection may wait there for any time.
    pub fn may_wait_now(&mut self) {
        if let Road::Dedicated(_, waits) = &mut self.0 {
            waits.may_wait = true;
        }
    }

    /// True when something that may wait is under way on the dedicated connection: if the client leaves, nobody waits
    /// for the reply.
    #[must_use]
    pub const fn may_wait(&self) -> bool {
        matches!(&self.0, Road::Dedicated(_, Waits { may_wait: true, .. }))
    }

    /// Everything has been answered.
    pub fn waits_for_nothing(&mut self) {
        if let Road::Dedicated(_, waits) = &mut self.0 {
            *waits = Waits::default();
        }
    }

    /// What the client waits for that may block. It is noted again by whoever routes it again.
    pub fn take_waits(&mut self) -> Waits {
        let Road::Dedicated(_, waits) = &mut self.0 else { return Waits::default() };
        let taken = std::mem::take(waits);
        waits.may_wait = taken.may_wait;
        taken
    }
}

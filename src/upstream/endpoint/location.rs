//! Where commands go at the moment: what `upstream.url` leads to, which a reload may change, and the server of it that
//! takes them, which sentinels may change; and whether commands may go there now (HEARTHSIDE PAUSE, a failover under
//! way). Connections watch it. After a reload those to an old location finish what is under way; after a failover they
//! end at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::ConnectError;
use super::pause::Pause;
use super::target::{Address, Host, Target};
use super::topology::Topology;

/// The location of the upstream.
#[derive(Debug)]
pub(crate) struct Location(watch::Sender<State>);

#[derive(Clone, Debug)]
struct State {
    /// What `upstream.url` leads to; absent when there is no upstream at all.
    topology: Option<Arc<Topology>>,
    /// Counts the topologies there were.
    topologies: u64,
    /// The server that takes commands; the reason when none is known.
    target: Result<Arc<Target>, ConnectError>,
    /// The number of the topology that it belongs to: of one before, until sentinels have named a master.
    target_of: u64,
    /// Counts the locations there were.
    generation: u64,
    /// The server at the last location before this one, with its number.
    before: Option<(u64, Arc<Target>)>,
    /// Connections to these locations end at once.
    deposed: Range<u64>,
    /// By an operator.
    paused: Option<Pause>,
    /// By sentinels that are about to name another master.
    held_until: Option<Instant>,
}

impl State {
    /// From now on the upstream is there. Until sentinels have named a master, the last upstream takes commands.
    fn lead_to(&mut self, topology: Topology) {
        self.topologies += 1;
        self.held_until = None;
        match &topology {
            Topology::Single(target) => self.go_to(target.clone()),
            Topology::Sentinels(sentinels) if self.target.is_err() => {
                self.target = Err(sentinels.no_master("no sentinel has answered yet"));
            }
            Topology::Cluster(members) if self.target.is_err() => {
                self.target = Err(members.nobody("none has answered yet"));
            }
            Topology::Hosts(servers) if self.target.is_err() => {
                self.target = Err(servers.no_primary("not all have answered yet"));
            }
            Topology::Hosts(_) | Topology::Sentinels(_) | Topology::Cluster(_) => {}
        }
        self.topology = Some(Arc::new(topology));
    }

    /// This server takes commands from now on. One of the same topology that did before is deposed.
    fn go_to(&mut self, target: Target) {
        let is_deposed = self.is_named();
        self.leave(Ok(Arc::new(target)));
        self.target_of = self.topologies;
        self.held_until = None;
        self.deposed = if is_deposed { self.deposed.start..self.generation } else { self.generation..self.generation };
    }

    /// Another server takes commands, or none.
    fn leave(&mut self, target: Result<Arc<Target>, ConnectError>) {
        self.before = std::mem::replace(&mut self.target, target).ok().map(|before| (self.generation, before));
        self.generation += 1;
    }

    /// It is known who takes commands, by what `upstream.url` is now.
    fn is_named(&self) -> bool {
        self.target_of == self.topologies
    }

    fn is_at(&self, target: &Target) -> bool {
        self.is_named() && self.target.as_ref().is_ok_and(|now| now.address == target.address)
    }
}

/// One connection's look at it.
#[derive(Debug)]
pub(crate) struct Lookout {
    states: watch::Receiver<State>,
    generation: u64,
}

impl Location {
    /// A location that nobody pauses, or the reason why there is none.
    #[must_use]
    pub(super) fn new(topology: Result<Topology, String>) -> Self {
        let mut state = State {
            topology: None,
            topologies: 0,
            target: Err(ConnectError::Absent(String::new())),
            target_of: 0,
            generation: 0,
            before: None,
            deposed: 0..0,
            paused: None,
            held_until: None,
        };
        match topology {
            Ok(topology) => state.lead_to(topology),
            Err(why) => state.target = Err(ConnectError::Absent(why)),
        }
        Self(watch::Sender::new(state))
    }

    /// The server that takes commands now.
    ///
    /// # Errors
    /// Why none is known.
    pub(super) fn target(&self) -> Result<Arc<Target>, ConnectError> {
        self.0.borrow().target.clone()
    }

    /// The same, if it is a server of the topology of this number.
    pub(super) fn target_in(&self, number: u64) -> Option<Arc<Target>> {
        let state = self.0.borrow();
        let is_its = state.topologies == number && state.is_named();
        state.target.as_ref().ok().filter(|_| is_its).cloned()
    }

    /// The server at the location of this number, while it takes commands.
    pub(super) fn target_at(&self, generation: u64) -> Option<Arc<Target>> {
        let state = self.0.borrow();
        state.target.as_ref().ok().filter(|_| state.generation == generation).cloned()
    }

    /// The server at the location of this number, if it was the last one before that of now.
    pub(super) fn target_before(&self, generation: u64) -> Option<Arc<Target>> {
        let state = self.0.borrow();
        state.before.as_ref().filter(|(number, _)| *number == generation).map(|(_, target)| target.clone())
    }

    /// What `upstream.url` leads to, with its number.
    pub(super) fn topology(&self) -> (Option<Arc<Topology>>, u64) {
        let state = self.0.borrow();
        (state.topology.clone(), state.topologies)
    }

    /// Whether requests go to a cluster; none while that depends on what was before, because nobody has said yet who
    /// takes them.
    pub(super) fn is_of_cluster(&self) -> Option<bool> {
        let state = self.0.borrow();
        match state.topology.as_deref() {
            Some(Topology::Cluster(_)) => Some(true),
            Some(_) if !state.is_named() => None,
            _ => Some(false),
        }
    }

    /// From now on the upstream is there.
    pub(super) fn change(&self, topology: Topology) {
        self.0.send_modify(|state| state.lead_to(topology));
    }

    /// The master of the topology of this number is there from now on, and what is under way at another one ends at
    /// once. False if it was there already, or if the topology is another one.
    pub(super) fn appoint(&self, number: u64, master: Target) -> bool {
        self.0.send_if_modified(|state| {
            let is_another = state.topologies == number && !state.is_at(&master);
            if is_another {
                state.go_to(master);
            }
            is_another
        })
    }

    /// The master of the topology of this number is not known, for this reason; one that was known stays.
    pub(super) fn note_why(&self, number: u64, why: ConnectError) {
        self.0.send_if_modified(|state| {
            if state.topologies == number && state.target.is_err() {
                state.target = Err(why);
            }
            // Nobody has to be woken for a reason.
            false
        });
    }

    /// Commands wait for the one who will take the place of `master`, for at most so long; false if another one is the
    /// master already.
    pub(super) fn hold(&self, number: u64, master: &Target, most: Duration) -> bool {
        self.0.send_if_modified(|state| {
            let is_its = state.topologies == number && state.is_at(master);
            if is_its {
                state.held_until = Instant::now().checked_add(most);
            }
            is_its
        })
    }

    /// Nobody will take the place of `master` for now.
    pub(super) fn release(&self, number: u64, master: &Target) {
        self.0.send_if_modified(|state| {
            state.topologies == number && state.is_at(master) && state.held_until.take().is_some()
        });
    }

    /// `upstream.url` leads to one server, whichever that is.
    pub(crate) fn is_single(&self) -> bool {
        matches!(self.0.borrow().topology.as_deref(), Some(Topology::Single(_)))
    }

    /// The one server at the location of this number sends commands to `host`; what is under way is answered there.
    /// False if somebody else says where the upstream is, or it is somewhere else already.
    pub(super) fn redirect(&self, generation: u64, host: &Host) -> bool {
        self.0.send_if_modified(|state| {
            let is_single = matches!(state.topology.as_deref(), Some(Topology::Single(_)));
            let is_its = state.generation == generation && state.is_named() && is_single;
            let Some(target) = state.target.as_ref().ok().filter(|_| is_its) else { return false };
            let target = Target { address: Address::Net(host.clone()), ..Target::clone(target) };
            state.leave(Ok(Arc::new(target)));
            state.deposed = state.generation..state.generation;
            true
        })
    }

    /// The primary at the location of this number, which a server has named, does not answer: commands go to where
    /// `upstream.url` leads again. False if nobody has named it.
    pub(super) fn go_back(&self, generation: u64) -> bool {
        self.0.send_if_modified(|state| {
            let Some(Topology::Single(target)) = state.topology.as_deref() else { return false };
            let is_named = state.generation == generation && !state.is_at(target);
            if is_named {
                let target = target.clone();
                state.go_to(target);
            }
            is_named
        })
    }

    /// Commands wait for [`Location::resume`], or for the end of the pause, if there is one.
    pub(super) fn pause(&self, pause: Option<Pause>) {
        self.0.send_modify(|state| state.paused = pause);
    }

    /// The last pause, unless somebody has ended it.
    pub(super) fn paused(&self) -> Option<Pause> {
        self.0.borrow().paused
    }

    /// The server takes no commands any more; what is under way there ends at once if nobody will answer it.
    pub(super) fn retire(&self, at_once: bool) {
        self.0.send_modify(|state| {
            state.leave(Err(ConnectError::Retired));
            if at_once {
                state.deposed = state.deposed.start..state.generation;
            }
        });
    }

    /// Commands go on; false if they were not paused.
    pub(super) fn resume(&self) -> bool {
        self.0.send_if_modified(|state| state.paused.take().is_some())
    }

    /// The location now, with its number.
    pub(crate) fn numbered(&self) -> (Result<Arc<Target>, ConnectError>, u64) {
        let state = self.0.borrow();
        (state.target.clone(), state.generation)
    }

    /// True while the location of this number is the upstream's.
    pub(crate) fn is_at(&self, generation: u64) -> bool {
        self.0.borrow().generation == generation
    }

    /// A look at the location for a connection to the one of this number.
    pub(crate) fn lookout(&self, generation: u64) -> Lookout {
        Lookout { states: self.0.subscribe(), generation }
    }
}

impl Lookout {
    /// True when the upstream is somewhere else.
    pub(crate) fn has_moved(&self) -> bool {
        self.states.borrow().generation != self.generation
    }

    /// True when the connection's server is deposed: nothing that is under way there is worth waiting for.
    pub(crate) fn is_deposed(&self) -> bool {
        self.states.borrow().deposed.contains(&self.generation)
    }

    /// True when commands wait for another master.
    pub(crate) fn is_held(&self) -> bool {
        self.states.borrow().held_until.is_some_and(|until| until > Instant::now())
    }

    /// Until when commands wait, if they do.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        let state = self.states.borrow();
        state.paused.map(|pause| pause.until).max(state.held_until).filter(|until| *until > Instant::now())
    }

    /// Waits until something about the location changes, a pause that ends by itself included.
    pub(crate) async fn changed(&mut self) {
        let until = self.paused_until();
        let ended = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The location lives as long as the process: there is no other end.
            _ = self.states.changed() => {}
            () = ended => {}
        }
    }

    /// Waits until the upstream is somewhere else.
    pub(crate) async fn moved(&mut self) {
        while !self.has_moved() {
            self.changed().await;
        }
    }

    /// Waits until `upstream.url` leads somewhere else than to the topology of this number.
    pub(super) async fn replaced(&mut self, number: u64) {
        // The location lives as long as the process: there is no other end.
        let _ended = self.states.wait_for(|state| state.topologies != number).await;
    }

    /// Works until `upstream.url` leads somewhere else than to the topology of this number, or the work ends.
    pub(super) async fn unless_replaced(&mut self, number: u64, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.replaced(number) => {}
        }
    }

    /// Works until somebody else takes commands than the cluster of this number, or another cluster is asked who does.
    pub(super) async fn unless_left(&mut self, number: u64, work: impl Future<Output = ()>) {
        let is_left = |state: &State| {
            let is_cluster = matches!(state.topology.as_deref(), Some(Topology::Cluster(_)));
            state.topologies != number && (state.target_of != number || is_cluster)
        };
        tokio::select! {
            () = work => {}
            _ = self.states.wait_for(is_left) => {}
        }
    }

    /// Waits until commands may go.
    ///
    /// # Errors
    /// The server takes none any more.
    pub(crate) async fn resumed(&mut self) -> Result<(), ConnectError> {
        while self.paused_until().is_some() {
            if matches!(self.states.borrow().target, Err(ConnectError::Retired)) {
                return Err(ConnectError::Retired);
            }
            self.changed().await;
        }
        Ok(())
    }
}

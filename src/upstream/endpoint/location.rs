//! The location of the upstream at the moment, which a reload may change, and whether commands may go there now
//! (HEARTHSIDE PAUSE). Connections watch it: those to an old location finish what is under way and are opened again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::target::Target;

/// The location of the upstream.
#[derive(Debug)]
pub(crate) struct Location(watch::Sender<State>);

#[derive(Clone, Debug)]
struct State {
    /// The reason when there is no upstream at all.
    target: Result<Arc<Target>, String>,
    /// Counts the locations there were.
    generation: u64,
    paused_until: Option<Instant>,
}

/// One connection's look at it.
#[derive(Debug)]
pub(crate) struct Lookout {
    states: watch::Receiver<State>,
    generation: u64,
}

impl Location {
    /// A location that nobody pauses.
    #[must_use]
    pub(super) fn new(target: Result<Target, String>) -> Self {
        Self(watch::Sender::new(State { target: target.map(Arc::new), generation: 0, paused_until: None }))
    }

    /// The location now.
    ///
    /// # Errors
    /// Why there is no upstream.
    pub(super) fn target(&self) -> Result<Arc<Target>, String> {
        self.0.borrow().target.clone()
    }

    /// From now on the upstream is there.
    pub(crate) fn change(&self, target: Target) {
        self.0.send_modify(|state| {
            state.target = Ok(Arc::new(target));
            state.generation += 1;
        });
    }

    /// Commands wait for [`Location::resume`], or until so much time has passed.
    pub(super) fn pause(&self, most: Duration) {
        self.0.send_modify(|state| state.paused_until = Instant::now().checked_add(most));
    }

    /// Commands go on; false if they were not paused.
    pub(super) fn resume(&self) -> bool {
        self.0.send_if_modified(|state| state.paused_until.take().is_some())
    }

    /// The location now, with its number.
    pub(super) fn numbered(&self) -> (Result<Arc<Target>, String>, u64) {
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

    /// Until when commands wait, if they do.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.states.borrow().paused_until.filter(|until| *until > Instant::now())
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

    /// Waits until commands may go.
    pub(crate) async fn resumed(&mut self) {
        while self.paused_until().is_some() {
            self.changed().await;
        }
    }
}

//! The Redis behind: lanes that all clients of a worker share, and pinned connections lent to one.
//! Requests and replies pass as raw bytes. Knows nothing of routes or owned keys.

mod endpoint;
mod group;
mod hub;
mod pinned;
mod pipeline;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use endpoint::circuit::Circuit;
pub use endpoint::connect::ConnectError;
pub use endpoint::health::{Version, probe, watch};
pub use endpoint::location::Location;
pub use endpoint::private_server::{NoServer, PrivateServer};
pub use endpoint::target::Target;
pub use group::{Credentials, Group, Login};
pub use hub::{Confirmed, Hub, HubTask, Membership, Overflowed, Subscriber};
pub use pinned::permits::Permits;
pub use pinned::{Lost, Pinned};
pub use pipeline::account::{Account, Kept};
pub use pipeline::batch::{Asked, Batch, Expect, Loss};
pub use pipeline::flight::MAYBE_APPLIED;
pub use pipeline::inbox::Inbox;
pub use pipeline::lane::Lane;
pub use pipeline::ticket::{Broken, Chunk, Ticket};

pub use pinned::pool::Member;

use pinned::pool::Pool;
use pipeline::lanes::Lanes;

use crate::config;
use crate::telemetry::Metrics;

/// What lanes and pinned connections of one process have in common.
#[derive(Debug)]
pub struct Common {
    /// Where to connect.
    pub place: Location,
    /// Whether that can be done.
    pub circuit: Circuit,
    /// `[upstream]`.
    pub settings: config::Upstream,
    /// Bounds the pinned connections.
    pub gate: Permits,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Common {
    /// From now on the upstream is at `target`: what is under way ends where it began, everything else goes there.
    pub fn move_to(&self, target: Target) {
        tracing::info!(upstream = %target.name(), "the upstream is somewhere else; connections are opened anew");
        self.place.change(target);
        self.circuit.begin_anew();
    }

    /// Why what waits is not sent.
    fn unreachable(&self) -> ConnectError {
        self.circuit.why().unwrap_or_else(|| {
            let name = self.place.target().map(|target| target.name()).unwrap_or_default();
            ConnectError::Unreachable(name, "no connection in time".into())
        })
    }

    /// Holds commands back, for at most `most`, from now on; the future ends when none is under way on a lane any more.
    pub fn pause(self: Arc<Self>, most: Duration) -> impl Future<Output = ()> {
        tracing::warn!(milliseconds = most.as_millis(), "commands for the upstream are held back (HEARTHSIDE PAUSE)");
        self.place.pause(most);
        async move {
            while self.metrics.lanes_held.get() < self.metrics.lanes_connected.get() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Lets commands go on.
    pub fn resume(&self) {
        if self.place.resume() {
            tracing::info!("commands go to the upstream again (HEARTHSIDE RESUME)");
        }
    }
}

/// How often idle connections are looked at.
const LOOK_AT_LEAST: Duration = Duration::from_millis(20);
const LOOK_AT_MOST: Duration = Duration::from_secs(1);

/// One worker thread's way to the upstream.
#[derive(Debug)]
pub struct Upstream {
    common: Arc<Common>,
    lanes: Lanes,
    pool: Pool,
}

impl Upstream {
    /// No connection is opened before one is needed.
    #[must_use]
    pub fn new(common: Arc<Common>) -> Self {
        Self { pool: Pool::new(common.clone()), lanes: Lanes::new(common.clone()), common }
    }

    /// The lane of a client that has nothing under way: the same one while its group is the same and others' requests do not
    /// hold that up.
    #[must_use]
    pub fn lane(&self, group: &Group, client: u64, account: &Rc<Account>) -> Lane {
        self.lanes.lane(group, client, account)
    }

    /// A lane for one client alone, if there is room for what is not necessary.
    #[must_use]
    pub fn private_lane(&self, group: &Group, account: &Rc<Account>) -> Option<Lane> {
        let permit = self.common.gate.enter_if_open()?;
        Some(Lane::start_private(self.common.clone(), group.clone(), account, permit))
    }

    /// Notes that the upstream has let a client in with this login; what is open for it is closed when the last such client
    /// has gone.
    #[must_use]
    pub fn enter(&self, login: &Login) -> Option<Member> {
        self.pool.enter(login)
    }

    /// Closes, for ever, what has been idle for `upstream.pinned_idle_time`.
    pub async fn tend(self: Rc<Self>) {
        let most = self.common.settings.pinned_idle_time;
        let mut ticker = tokio::time::interval((most / 4).clamp(LOOK_AT_LEAST, LOOK_AT_MOST));
        loop {
            ticker.tick().await;
            self.lanes.tend(most);
            self.pool.tend();
        }
    }

    /// What the process's connections have in common.
    #[must_use]
    pub const fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// How long a command waits for an upstream that does not answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.common.settings.queue_timeout
    }

    /// The pause before a client asks again for what it cannot do without.
    #[must_use]
    pub fn pause(&self) -> Duration {
        endpoint::circuit::backoff(self.common.circuit.attempts().max(1))
    }

    /// True while pinned connections may be had for what is not necessary.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.common.gate.is_open()
    }

    /// A connection for one client alone: an idle one, or a new one.
    ///
    /// # Errors
    /// [`ConnectError`], also when the upstream refuses the group's database or login.
    pub async fn pin(&self, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        self.pool.take(group, account).await
    }

    /// The same for a command that needs no database and must reach an upstream that is busy.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn pin_aside(&self, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        self.pool.take(&Group { db: 0, ..group.clone() }, account).await
    }
}

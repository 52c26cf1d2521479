//! The Redis behind the sidecar: lanes that all clients of a worker share, pinned connections that are lent to one
//! client, and shared subscriptions. Requests and replies pass as raw bytes. Knows nothing of routes or owned keys.

mod endpoint;
mod hub;
mod pinned;
mod pipeline;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use endpoint::Endpoint;
pub use endpoint::error::ConnectError;
pub use endpoint::greeting::PING;
pub use endpoint::group::{Credentials, Group, Login};
pub use endpoint::health::{probe, watch};
pub use endpoint::logins::Close;
pub use endpoint::private_server::{NoServer, PrivateServer};
pub use endpoint::sentinel::SentinelTask;
pub use endpoint::topology::Topology;
pub use hub::{Confirmed, Hub, Membership, Overflowed, Subscriber};
pub use pinned::shelf::Member;
pub use pinned::{Lost, Pinned};
pub use pipeline::account::{Account, Kept};
pub use pipeline::batch::{Asked, Batch, Expect, Loss};
pub use pipeline::inbox::Inbox;
pub use pipeline::lane::Lane;
pub use pipeline::ticket::{Broken, Chunk, Ticket};

use crate::command::{Spec, Table};
use pinned::pool::Pool;
use pipeline::lanes::Lanes;

/// How often idle connections are looked at.
const LOOK_AT_LEAST: Duration = Duration::from_millis(20);
const LOOK_AT_MOST: Duration = Duration::from_secs(1);

/// One worker thread's way to the upstream.
#[derive(Debug)]
pub struct Upstream {
    endpoint: Arc<Endpoint>,
    lanes: Lanes,
    pool: Pool,
    /// This thread's look at the upstream's command table, and the table's number.
    commands: RefCell<(u64, Arc<Table>)>,
}

impl Upstream {
    /// No connection is opened before one is needed.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            pool: Pool::new(endpoint.clone()),
            lanes: Lanes::new(endpoint.clone()),
            commands: RefCell::new(endpoint.commands.table()),
            endpoint,
        }
    }

    /// The lane of a client that has nothing under way: the same one while its group is the same and others' requests
    /// do not hold that up.
    #[must_use]
    pub fn lane(&self, group: &Group, client: u64, account: &Rc<Account>) -> Lane {
        self.lanes.lane(group, client, account)
    }

    /// A lane for one client alone, if there is room for what is not necessary.
    #[must_use]
    pub fn private_lane(&self, group: &Group, account: &Rc<Account>) -> Option<Lane> {
        let permit = self.endpoint.permits.enter_if_open()?;
        Some(Lane::start_private(self.endpoint.clone(), group.clone(), account, permit))
    }

    /// Notes that the upstream has let a client in with this login: what is open for it is closed when the last such
    /// client has gone, and `close` is called when the upstream does not take the login any more.
    #[must_use]
    pub fn enter(&self, login: &Login, close: Close) -> Option<Member> {
        self.pool.enter(login, close)
    }

    /// Closes, for ever, what has been idle for `upstream.pinned_idle_time`.
    pub async fn tend(&self) {
        let most = self.endpoint.settings.pinned_idle_time;
        let mut ticker = tokio::time::interval((most / 4).clamp(LOOK_AT_LEAST, LOOK_AT_MOST));
        loop {
            ticker.tick().await;
            self.lanes.tend(most);
            self.pool.tend();
        }
    }

    /// The row of a command or, when `name` is a container, of its subcommand `sub` if there is one, by what is known
    /// of the upstream's commands.
    #[must_use]
    pub fn lookup(&self, name: &[u8], sub: &[u8]) -> Option<&'static Spec> {
        let mut commands = self.commands.borrow_mut();
        if commands.0 != self.endpoint.commands.edition() {
            *commands = self.endpoint.commands.table();
        }
        commands.1.lookup(name, sub)
    }

    /// The server that the connections lead to.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// How long a command waits for an upstream that does not answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.endpoint.settings.queue_timeout
    }

    /// The pause before a client asks again for what it cannot do without.
    #[must_use]
    pub fn pause(&self) -> Duration {
        endpoint::circuit::backoff(self.endpoint.circuit.attempts().max(1))
    }

    /// True while pinned connections may be had for what is not necessary.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.endpoint.permits.is_open()
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
        self.pool.take_aside(&Group { db: 0, ..group.clone() }, account).await
    }
}

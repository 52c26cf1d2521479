//! The Redis behind: lanes that all clients of a worker share, and pinned connections lent to one.
//! Requests and replies pass as raw bytes. Knows nothing of routes or owned keys.

mod connect;
mod connection;
mod flight;
mod health;
mod lane;
mod pinned;
mod private;
mod queue;
mod stream;
mod target;
mod ticket;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

pub use connect::ConnectError;
pub use flight::Run;
pub use health::{Version, probe, watch};
pub use lane::Lane;
pub use pinned::{Pinned, Received};
pub use private::PrivateServer;
pub use target::Target;
pub use ticket::{Broken, Ticket};

use pinned::Pool;

use crate::config;
use crate::resp::Proto;
use crate::telemetry::Metrics;

/// What lanes and pinned connections of one process have in common.
#[derive(Debug)]
pub struct Common {
    /// Where to connect; the reason when there is no upstream at all.
    pub target: Result<Target, String>,
    /// `[upstream]`.
    pub settings: config::Upstream,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// Which lanes a client uses: its protocol and its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The client's RESP version, which is the lane's.
    pub proto: Proto,
    /// The client's database, which is the lane's.
    pub db: i64,
}

/// One worker thread's way to the upstream.
#[derive(Debug)]
pub struct Upstream {
    common: Arc<Common>,
    groups: RefCell<HashMap<Group, Rc<[Lane]>>>,
    pool: Pool,
}

impl Upstream {
    /// No connection is opened before one is needed.
    #[must_use]
    pub fn new(common: Arc<Common>) -> Self {
        Self { pool: Pool::new(common.clone()), common, groups: RefCell::default() }
    }

    /// The lane of a client: always the same one while its group is the same, so that it reads what it wrote (hazard 15).
    #[must_use]
    pub fn lane(&self, group: Group, client: u64) -> Lane {
        let mut groups = self.groups.borrow_mut();
        let lanes = groups.entry(group).or_insert_with(|| {
            (0..self.common.settings.lanes).map(|_| Lane::start(self.common.clone(), group)).collect()
        });
        lanes[client as usize % lanes.len()].clone()
    }

    /// A connection for one client alone: an idle one, or a new one.
    ///
    /// # Errors
    /// [`ConnectError`], also when the upstream refuses the group's database.
    pub async fn pin(&self, group: Group) -> Result<Pinned, ConnectError> {
        self.pool.take(group).await
    }
}

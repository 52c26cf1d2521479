//! What the sidecar remembers of one client connection.

use std::time::Instant;

use bytes::Bytes;

use crate::resp::Proto;
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::Tally;
use crate::upstream::{Group, Lane};

/// One client's state.
#[derive(Debug)]
pub struct Session {
    /// Counts up over the life of the process; `CLIENT ID`.
    pub id: u64,
    /// Protocol and database, which choose its lanes.
    pub group: Group,
    /// The database it began in.
    home_db: i64,
    /// `CLIENT SETNAME`.
    pub name: Bytes,
    /// `CLIENT SETINFO LIB-NAME`.
    pub lib_name: Bytes,
    /// `CLIENT SETINFO LIB-VER`.
    pub lib_ver: Bytes,
    /// The client's address and ours, for `CLIENT INFO`.
    pub addresses: (String, String),
    /// When it connected.
    pub since: Instant,
    /// The clock of the batch that is being answered: one look per batch, not per command.
    pub now: u64,
    /// Set when the connection is to be closed once everything owed has been written.
    pub closing: bool,
    /// Commands counted since the last batch.
    pub tally: Tally,
    pub(super) lane: Option<Lane>,
}

impl Session {
    /// A new client in database `db`.
    #[must_use]
    pub fn new(id: u64, db: i64, addresses: (String, String)) -> Self {
        Self {
            id,
            group: Group { proto: Proto::Resp2, db },
            home_db: db,
            name: Bytes::new(),
            lib_name: Bytes::new(),
            lib_ver: Bytes::new(),
            addresses,
            since: Instant::now(),
            now: now_ms(),
            closing: false,
            tally: Tally::default(),
            lane: None,
        }
    }

    /// The client's protocol.
    #[must_use]
    pub const fn proto(&self) -> Proto {
        self.group.proto
    }

    /// Moves the client to other lanes.
    pub fn regroup(&mut self, group: Group) {
        if self.group != group {
            self.group = group;
            self.lane = None;
        }
    }

    /// Forgets everything that `RESET` forgets.
    pub fn reset(&mut self) {
        self.regroup(Group { proto: Proto::Resp2, db: self.home_db });
        self.name = Bytes::new();
    }
}

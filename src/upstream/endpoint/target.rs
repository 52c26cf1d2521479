//! A server that connections are opened to: its address, as whom it is spoken to, over TLS or not, and the database.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use redis::RedisConnectionInfo;

use super::tls::Tls;

/// A host and its port.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Host {
    /// A name, or an address.
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Net(Host),
    Unix(PathBuf),
}

/// How a server is spoken to, wherever it is.
#[derive(Clone, Default)]
pub(super) struct Access {
    /// The login, and the database that clients begin in.
    pub(super) login: RedisConnectionInfo,
    /// With it connections are encrypted.
    pub(super) tls: Option<Tls>,
}

impl Access {
    /// Nodes of a cluster that have a name are reached by it: what they prove with a certificate is a name.
    pub(super) const fn is_by_name(&self) -> bool {
        self.tls.is_some()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("user", &self.login.username()).field("tls", &self.tls.is_some()).finish()
    }
}

/// A server that connections are opened to.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) address: Address,
    pub(super) access: Arc<Access>,
    /// It must say that it is a master, or a connection to it is not used.
    pub(super) must_be_master: bool,
    /// It is a node of a cluster that is to answer reads although it is a replica (READONLY).
    pub(super) is_reader: bool,
    /// It is a replica that must have got so many bytes of what its primary writes, or a connection to it is not used.
    pub(super) floor: Option<Arc<AtomicU64>>,
}

impl Target {
    /// The server there, whatever its role is.
    pub(super) const fn new(address: Address, access: Arc<Access>) -> Self {
        Self { address, access, must_be_master: false, is_reader: false, floor: None }
    }

    /// The address, for logs and errors: no user, no password.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.address {
            Address::Net(host) if self.access.tls.is_some() => format!("rediss://{host}"),
            Address::Net(host) => format!("redis://{host}"),
            Address::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// Its host, unless it is a socket.
    pub(super) fn host(&self) -> Option<Host> {
        match &self.address {
            Address::Net(host) => Some(host.clone()),
            Address::Unix(_) => None,
        }
    }

    /// The database that clients begin in.
    #[must_use]
    pub fn db(&self) -> i64 {
        self.access.login.db()
    }
}

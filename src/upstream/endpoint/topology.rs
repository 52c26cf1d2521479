//! What stands behind `upstream.url`: one server, a master that sentinels watch over, or a cluster.

use std::sync::Arc;

use super::error::ConnectError;
use super::target::{Access, Address, Host, Target};

/// What `upstream.url` leads to.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server, which is the upstream whatever it says it is.
    Single(Target),
    /// Several servers, one of which says that it is the primary.
    Hosts(Hosts),
    /// The master of a service, as its sentinels name it.
    Sentinels(Sentinels),
    /// The nodes of a cluster, each of which owns some of the keys.
    Cluster(Members),
}

/// A primary and its replicas, which one each is they say themselves.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Where they are, at least two.
    pub(super) hosts: Vec<Host>,
    /// How they are spoken to.
    pub(super) access: Arc<Access>,
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct Members {
    /// Where some of its nodes are, at least one; the others are learnt from them.
    pub(super) hosts: Vec<Host>,
    /// How they are spoken to.
    pub(super) access: Arc<Access>,
}

/// A service that sentinels watch over.
#[derive(Clone, Debug)]
pub struct Sentinels {
    /// Where they are, at least one; others are learnt from them.
    pub(super) hosts: Vec<Host>,
    /// The name that they know it by.
    pub(super) service: String,
    /// How they are spoken to.
    pub(super) access: Arc<Access>,
    /// How its master is.
    pub(super) master: Arc<Access>,
}

impl Topology {
    /// True of a cluster.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// For logs and errors: no user, no password.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Single(target) => target.name(),
            Self::Hosts(servers) => servers.name(),
            Self::Sentinels(sentinels) => sentinels.name(),
            Self::Cluster(members) => members.name(),
        }
    }

    /// True when connections are encrypted and nothing of the server is verified.
    #[must_use]
    pub fn is_unverified(&self) -> bool {
        let access = match self {
            Self::Single(target) => &target.access,
            Self::Hosts(servers) => &servers.access,
            Self::Sentinels(sentinels) => &sentinels.master,
            Self::Cluster(members) => &members.access,
        };
        access.tls.as_ref().is_some_and(|tls| tls.is_unverified)
    }

    /// The database that clients begin in.
    #[must_use]
    pub fn db(&self) -> i64 {
        match self {
            Self::Single(target) => target.db(),
            Self::Hosts(servers) => servers.access.login.db(),
            Self::Sentinels(sentinels) => sentinels.master.login.db(),
            Self::Cluster(members) => members.access.login.db(),
        }
    }
}

impl Hosts {
    /// For logs and errors.
    pub(super) fn name(&self) -> String {
        let scheme = if self.access.tls.is_some() { "rediss" } else { "redis" };
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        format!("{scheme}://{}", hosts.join(","))
    }

    /// Commands find no primary, for this reason.
    pub(super) fn no_primary(&self, why: &str) -> ConnectError {
        ConnectError::Unreachable(self.name(), format!("none of them is known to be the primary: {why}"))
    }

    /// One of them.
    pub(super) fn target(&self, host: Host) -> Target {
        Target::new(Address::Net(host), self.access.clone())
    }

    /// The one that says that it is the primary.
    pub(super) fn primary(&self, host: Host) -> Target {
        Target { must_be_master: true, ..self.target(host) }
    }
}

impl Members {
    /// For logs and errors.
    pub(super) fn name(&self) -> String {
        let scheme = if self.access.tls.is_some() { "rediss+cluster" } else { "redis+cluster" };
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        format!("{scheme}://{}", hosts.join(","))
    }

    /// Commands find no node, for this reason.
    pub(super) fn nobody(&self, why: &str) -> ConnectError {
        ConnectError::Unreachable(self.name(), format!("no node of the cluster is known: {why}"))
    }
}

impl Sentinels {
    /// For logs and errors.
    pub(super) fn name(&self) -> String {
        let scheme = if self.master.tls.is_some() { "rediss+sentinel" } else { "redis+sentinel" };
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        format!("{scheme}://{}/{}", hosts.join(","), self.service)
    }

    /// Commands find no master, for this reason.
    pub(super) fn no_master(&self, why: &str) -> ConnectError {
        ConnectError::Unreachable(self.name(), format!("no master of '{}' is known: {why}", self.service))
    }

    /// One of the sentinels.
    pub(super) fn sentinel(&self, host: Host) -> Target {
        Target::new(Address::Net(host), self.access.clone())
    }

    /// The master, where they say it is.
    pub(super) fn master(&self, host: Host) -> Target {
        Target { must_be_master: true, ..Target::new(Address::Net(host), self.master.clone()) }
    }
}

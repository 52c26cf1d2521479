//! Where a client's requests go, as the client sees it: one server, or a cluster, in which each request has its node.

use std::rc::Rc;

use super::batch::{Batch, Stop, To};
use super::cluster::ClusterLane;
use super::server_lane::ServerLane;
use super::ticket::Ticket;

/// A client's handle on what carries its requests. Cloning it is cheap.
#[derive(Clone, Debug)]
pub enum Lane {
    /// One connection.
    Server(ServerLane),
    /// A connection to each node of a cluster, or to each of a server and its replicas, that the client needs.
    Cluster(Rc<ClusterLane>),
}

impl Lane {
    /// Queues a batch; its replies arrive at the ticket, in order.
    #[must_use]
    pub fn submit(&self, batch: Batch) -> Ticket {
        match self {
            Self::Server(lane) => Ticket::Lane(lane.submit(Batch { is_for_one: true, ..batch })),
            Self::Cluster(lane) => Ticket::Merged(Box::new(lane.submit(batch))),
        }
    }

    /// The nodes that a command goes to which concerns all masters, or replicas, too. The first one is who answers for
    /// all.
    #[must_use]
    pub fn everywhere(&self, replicas: bool) -> Vec<Stop> {
        match self {
            Self::Server(_) => vec![Stop { to: To::Home, counts: true }],
            Self::Cluster(lane) => lane.everywhere(replicas),
        }
    }

    /// False before a node of the cluster has answered.
    #[must_use]
    pub fn knows_nodes(&self) -> bool {
        self.cluster().is_none_or(|lane| lane.knows_nodes())
    }

    /// The way into a cluster.
    #[must_use]
    pub(crate) fn cluster(&self) -> Option<&Rc<ClusterLane>> {
        match self {
            Self::Server(_) => None,
            Self::Cluster(lane) => Some(lane).filter(|lane| lane.is_of_cluster()),
        }
    }

    /// The same connections, as far as they lead to nodes of the cluster, by the newest map of it; nothing where the
    /// upstream is no cluster. For a client with nothing under way.
    #[must_use]
    pub fn renewed(&self) -> Option<Self> {
        let lane = self.cluster()?.renewed()?;
        Some(Self::Cluster(Rc::new(lane)))
    }

    /// Its client, with nothing under way, should look for another lane, or see whether its own moves on again.
    #[must_use]
    pub fn should_be_left(&self) -> bool {
        match self {
            Self::Server(lane) => lane.should_be_left(),
            Self::Cluster(lane) => lane.should_be_left(),
        }
    }
}

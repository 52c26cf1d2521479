//! Where a client's requests go, as the client sees it: one server, or a cluster, in which each request has its node.

use std::rc::Rc;

use super::batch::Batch;
use super::cluster::ClusterLane;
use super::server_lane::ServerLane;
use super::ticket::Ticket;

/// A client's handle on what carries its requests. Cloning it is cheap.
#[derive(Clone, Debug)]
pub enum Lane {
    /// One connection.
    Server(ServerLane),
    /// A connection to each node of a cluster that the client needs.
    Cluster(Rc<ClusterLane>),
}

impl Lane {
    /// Queues a batch; its replies arrive at the ticket, in order.
    #[must_use]
    pub fn submit(&self, batch: Batch) -> Ticket {
        match self {
            Self::Server(lane) => Ticket::Lane(lane.submit(batch)),
            Self::Cluster(lane) => Ticket::Merged(Box::new(lane.submit(batch))),
        }
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

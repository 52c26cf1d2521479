//! A client's way into a cluster: each of its requests goes over a lane to the node that owns its slot, and the replies
//! come back in the order of the requests (`merged.rs`).
//!
//! Invariants:
//! - what a client asks of one node goes there in order. It goes by one map of the slots until everything that it sent
//!   by that map has been answered (`server/client/intake.rs`): nothing overtakes a request that was sent elsewhere
//!   (hazard 15);
//! - a request is sent again only where a node has said that it did nothing with it, or where it only reads and was
//!   sent to a replica: whatever is wrong there, the primary is asked.
//!
//! Where the upstream is one server and its replicas (`endpoint/replicas`), there is no map: everything goes to the one
//! server, but for reads that a replica may answer.

mod again;
mod everywhere;
mod holding;
mod merged;
mod part;
mod replies;
mod unheard;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;

use super::account::Account;
use super::batch::{Asked, Batch, Loss, To};
use super::lane_ticket::LaneTicket;
use super::server_lane::ServerLane;
use super::servers::Servers;
use crate::errors;
use crate::telemetry::clock::Tick;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::cluster::SlotMap;
use crate::upstream::endpoint::group::Group;
use crate::upstream::endpoint::replicas::readers::{Reader, Readers};
pub(crate) use holding::Holding;
pub use merged::Merged;
use part::Part;
pub use unheard::Unheard;

/// Whose requests they are.
#[derive(Clone, Debug)]
pub struct Rider {
    /// Its protocol, database and login.
    pub group: Group,
    /// Its id.
    pub client: u64,
    /// What it holds.
    pub account: Rc<Account>,
    /// It has its lanes for itself, where there is room for that.
    pub is_alone: bool,
    /// It tracks its keys, over the connections that it has for itself.
    pub unheard: Option<Unheard>,
}

/// What a client that tracks its keys is answered for requests on a connection that is lost.
const TRACKING_LOSS: Loss = Loss { sent: errors::upstream::LOST, unsent: errors::upstream::LOST_UNSENT };

/// One client's lanes to the nodes of a cluster.
#[derive(Debug)]
pub struct ClusterLane {
    servers: Rc<Servers>,
    rider: Rider,
    /// What takes whatever belongs to no slot, for a client that has a connection of its own.
    home: Option<Arc<Endpoint>>,
    /// Where its client has a connection of its own.
    own: Vec<Arc<Endpoint>>,
    /// None where no node has answered yet.
    map: Option<Arc<SlotMap>>,
    lanes: RefCell<Vec<(Arc<Endpoint>, ServerLane)>>,
}

impl ClusterLane {
    /// That of a client with nothing under way.
    pub(crate) fn new(servers: Rc<Servers>, rider: Rider) -> Self {
        let map = servers.upstream.cluster.map();
        Self { servers, rider, home: None, own: Vec::new(), map, lanes: RefCell::default() }
    }

    /// The same for a client that has these lanes for itself, the first of which takes whatever belongs to no slot.
    pub(crate) fn around(servers: Rc<Servers>, rider: Rider, own: Vec<(Arc<Endpoint>, ServerLane)>) -> Self {
        let home = own.first().map(|(server, _)| server.clone());
        let nodes = own.iter().map(|(server, _)| server.clone()).collect();
        Self { home, own: nodes, lanes: RefCell::new(own), ..Self::new(servers, rider) }
    }

    /// The replica that takes this, if one may.
    fn reader(&self, asked: &Asked, primary: &Arc<Endpoint>, now: &mut Reading) -> Option<Arc<Reader>> {
        let (readers, now) = now.get_or_insert_with(|| (self.servers.upstream.replicas.readers(), Tick::now()));
        let reader = readers.instead_of(primary, self.rider.client, *now).filter(|_| asked.resendable)?;
        reader.server.reads.inc();
        Some(reader.clone())
    }

    /// The same by the newest map, without lanes to what is no node any more.
    pub(super) fn renewed(&self) -> Option<Self> {
        let cluster = &self.servers.upstream.cluster;
        let map = cluster.map().filter(|_| cluster.is_there())?;
        let is_node = |server: &Arc<Endpoint>| map.nodes.iter().any(|node| Arc::ptr_eq(&node.endpoint, server));
        let lanes = self.lanes.borrow().iter().filter(|(server, _)| is_node(server)).cloned().collect();
        let (home, own, lanes) = (self.home.clone(), self.own.clone(), RefCell::new(lanes));
        Some(Self { home, own, map: Some(map), lanes, ..Self::new(self.servers.clone(), self.rider.clone()) })
    }

    /// The server that takes this, by a map; by none, whichever the upstream is.
    fn server(&self, map: Option<&SlotMap>, to: To) -> Arc<Endpoint> {
        if let (To::Home, Some(home)) = (to.at_primary(), &self.home) {
            return home.clone();
        }
        let Some(map) = map else { return self.servers.upstream.clone() };
        if let To::Node(number) = to {
            return self.numbered(map, number).unwrap_or_else(|| self.servers.upstream.clone());
        }
        map.nodes.get(map.place(to.slot())).map_or_else(|| self.servers.upstream.clone(), |node| node.endpoint.clone())
    }

    /// The server that takes this by the newest map.
    fn newest(&self, to: To) -> Arc<Endpoint> {
        self.server(self.servers.upstream.cluster.map().as_deref(), to)
    }

    /// What follows what this server answers about a slot, where its client will not hear when that changes.
    fn unheard_from(&self, server: &Arc<Endpoint>, to: To) -> Option<&Unheard> {
        let is_own = || self.own.iter().any(|own| Arc::ptr_eq(own, server));
        self.rider.unheard.as_ref().filter(|_| to.slot().is_some() && !is_own())
    }

    /// Hands requests to a server's lane.
    fn hand(&self, server: &Arc<Endpoint>, mut batch: Batch) -> LaneTicket {
        if self.rider.unheard.is_some() {
            batch.loss = batch.loss.or(Some(TRACKING_LOSS));
        }
        let mut lanes = self.lanes.borrow_mut();
        if let Some((_, lane)) = lanes.iter().find(|(known, _)| Arc::ptr_eq(known, server)) {
            return lane.submit(batch);
        }
        let lane = self.open(server);
        let ticket = lane.submit(batch);
        lanes.retain(|(known, _)| !known.is_retired());
        lanes.push((server.clone(), lane));
        ticket
    }

    fn open(&self, server: &Arc<Endpoint>) -> ServerLane {
        let Rider { group, client, account, is_alone, .. } = &self.rider;
        if *is_alone && let Some(permit) = server.permits.enter_if_open() {
            return ServerLane::start_private(server.clone(), group.clone(), account, permit);
        }
        self.servers.lanes(server).lane(group, *client, account)
    }

    /// One of the lanes is held up by others, or is not the one that its client begins with.
    pub(super) fn should_be_left(&self) -> bool {
        self.lanes.borrow().iter().any(|(_, lane)| lane.should_be_left())
    }

    /// Sends each request of a batch to its node.
    pub(super) fn submit(self: &Rc<Self>, batch: Batch) -> Merged {
        let mut shares: Vec<Share> = Vec::new();
        let mut order: Vec<usize> = Vec::with_capacity(batch.asked.len());
        // Requests that stand side by side and go to one server are copied at once.
        let (mut begin, mut start) = (0, 0);
        let mut reading = None;
        for asked in &batch.asked {
            let at = self.share(&mut shares, asked, &mut reading, &batch);
            if let Some(before) = order.last().filter(|before| **before != at) {
                shares[*before].bytes.extend_from_slice(&batch.bytes[begin..start]);
                begin = start;
            }
            order.push(at);
            shares[at].expect(*asked, asked.end - start);
            start = asked.end;
        }
        if let Some(last) = order.last() {
            shares[*last].bytes.extend_from_slice(&batch.bytes[begin..]);
        }
        let parts = shares.into_iter().map(|share| self.send(share, &batch)).collect();
        Merged::new(self.clone(), parts, order).detaching(batch.detached)
    }

    /// The place of the share that this belongs to. What goes to one server is one share, however it is named; what a
    /// replica reads is another.
    fn share(&self, shares: &mut Vec<Share>, asked: &Asked, reading: &mut Reading, of: &Batch) -> usize {
        let to = asked.to.at_primary();
        if matches!(asked.to, To::Reader(_))
            && let Some(reader) = self.reader(asked, &self.server(self.map.as_deref(), to), reading)
        {
            return shares.iter().position(|share| share.is_of(&reader)).unwrap_or_else(|| {
                let server = reader.endpoint.clone();
                shares.push(Share { reader: Some(reader), ..Share::new(None, server, of) });
                shares.len() - 1
            });
        }
        let place = match (to, &self.map) {
            (To::Slot(_), Some(map)) => Some(map.place(to.slot())),
            (To::Home, Some(map)) if self.home.is_none() => Some(map.home()),
            _ => None,
        };
        if place.is_some()
            && let Some(at) = shares.iter().position(|share| share.place == place)
        {
            return at;
        }
        let server = self.server(self.map.as_deref(), to);
        shares.iter().position(|share| share.is_at(&server)).unwrap_or_else(|| {
            shares.push(Share::new(place, server, of));
            shares.len() - 1
        })
    }

    fn send(&self, share: Share, of: &Batch) -> Part {
        let Share { server, reader, bytes, asked, .. } = share;
        let bytes = bytes.freeze();
        let detached = of.detached.clone();
        let batch = Batch { bytes: bytes.clone(), asked: asked.clone(), detached, ..*of };
        Part::new(self.hand(&server, batch), server, bytes, asked).at(reader)
    }
}

/// The replicas there are, and the moment at which that was asked, once it was.
type Reading = Option<(Arc<Readers>, Tick)>;

/// What one node gets of a batch.
struct Share {
    /// The node's place in the map, where it is named by that.
    place: Option<usize>,
    server: Arc<Endpoint>,
    /// It is a replica of that node.
    reader: Option<Arc<Reader>>,
    bytes: BytesMut,
    asked: Vec<Asked>,
    /// Bytes of all that it is asked, also of those that `bytes` is still to be given.
    length: usize,
}

impl Share {
    /// Nothing yet of what may be all of the batch.
    fn new(place: Option<usize>, server: Arc<Endpoint>, of: &Batch) -> Self {
        let most = if of.asked.len() == 1 { 1 } else { 2 };
        let bytes = BytesMut::with_capacity(of.bytes.len() / most);
        let asked = Vec::with_capacity(of.asked.len() / most);
        Self { place, server, reader: None, bytes, asked, length: 0 }
    }

    /// This replica takes it.
    fn is_of(&self, reader: &Arc<Reader>) -> bool {
        self.reader.as_ref().is_some_and(|known| Arc::ptr_eq(known, reader))
    }

    /// This server takes it, and not as a replica.
    fn is_at(&self, server: &Arc<Endpoint>) -> bool {
        self.reader.is_none() && Arc::ptr_eq(&self.server, server)
    }

    /// It is asked one thing more, in so many bytes.
    fn expect(&mut self, asked: Asked, length: usize) {
        self.length += length;
        self.asked.push(Asked { end: self.length, ..asked });
    }
}

//! The lanes of one worker thread to every server of the upstream: the server itself, or the nodes of a cluster.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Holding;
use super::lanes::Lanes;
use crate::upstream::endpoint::Endpoint;

/// A server's lanes, by the server: for as long as it is here, no other has its address.
type ByServer = HashMap<*const Endpoint, Rc<Lanes>>;

#[derive(Debug)]
pub(crate) struct Servers {
    /// The upstream as a whole.
    pub(super) upstream: Arc<Endpoint>,
    nodes: RefCell<ByServer>,
    /// Replies that wait for those of other nodes.
    pub(crate) holding: Holding,
}

impl Servers {
    pub(crate) fn new(upstream: Arc<Endpoint>) -> Self {
        Self { upstream, nodes: RefCell::default(), holding: Holding::default() }
    }

    /// The lanes to a server.
    pub(crate) fn lanes(&self, server: &Arc<Endpoint>) -> Rc<Lanes> {
        let mut nodes = self.nodes.borrow_mut();
        nodes.entry(Arc::as_ptr(server)).or_insert_with(|| Rc::new(Lanes::new(server.clone()))).clone()
    }

    /// Closes what nobody has used for `idle_time`, and everything to servers that are not the upstream's any more.
    pub(crate) fn tend(&self, idle_time: Duration) {
        self.nodes.borrow_mut().retain(|_, lanes| {
            lanes.tend(idle_time);
            !lanes.is_empty() || !lanes.endpoint.is_retired()
        });
    }
}

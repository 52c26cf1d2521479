//! An edition: everything that one reading of the configuration says about clients. A reload makes another one, and
//! every client changes over to it between two of its requests.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::access::Access;
use crate::clients::Registry;
use crate::dispatch::{ModeOrders, Owned};
use crate::inspect::{About, Subject};
use crate::near::Near;
use crate::route::Router;
use crate::session::Policy;
use crate::telemetry::Metrics;
use crate::upstream::Endpoint;

/// One edition.
#[derive(Clone, Debug)]
pub struct Edition {
    /// Decides where requests go.
    pub router: Arc<Router>,
    /// Definitions and cache.
    pub owned: Arc<Owned>,
    /// Pass-through keys that are kept in memory, if some are.
    pub near: Option<Arc<Near>>,
    /// Users and what they may do.
    pub access: Arc<Access>,
    /// Where and when it was read.
    pub about: Arc<About>,
    /// Where other modes of mappings are asked for.
    pub modes: ModeOrders,
    /// What one client may cost.
    pub policy: Policy,
    /// For `rediss://` addresses.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Edition {
    /// What can be looked into while it is in force.
    #[must_use]
    pub fn subject(&self, upstream: Arc<Endpoint>, clients: Arc<Registry>, metrics: Arc<Metrics>) -> Subject {
        self.owned
            .subject(self.about.clone(), upstream, clients, metrics)
            .in_modes(self.router.modes.clone())
            .with_near(self.near.clone())
    }
}

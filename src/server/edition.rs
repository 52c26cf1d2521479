//! An edition: everything that one reading of the configuration says about clients. A reload makes another one, and
//! every client changes over to it between two of its requests.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::access::Access;
use crate::dispatch::Owned;
use crate::route::Router;
use crate::session::Policy;

/// One edition.
#[derive(Clone, Debug)]
pub struct Edition {
    /// Decides where requests go.
    pub router: Arc<Router>,
    /// Definitions and cache.
    pub owned: Arc<Owned>,
    /// Users and what they may do.
    pub access: Arc<Access>,
    /// What one client may cost.
    pub policy: Policy,
    /// For `rediss://` addresses.
    pub tls: Option<Arc<ServerConfig>>,
}

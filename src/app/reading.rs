//! One reading of the configuration, compiled: at start, and again at every SIGHUP.

use std::sync::Arc;

use super::check::Failure;
use super::descriptors;
use crate::access::Access;
use crate::config::{Config, Loaded, OnLoss};
use crate::dispatch::{Owned, Policy};
use crate::mapping::Mappings;
use crate::route::Router;
use crate::server::{Edition, server_config};

/// What the configuration says.
#[derive(Debug)]
pub struct Reading {
    /// The settings and blocks.
    pub config: Config,
    /// The mappings among them.
    pub mappings: Mappings,
    /// The users among them.
    pub access: Arc<Access>,
}

impl Reading {
    /// Compiles what was read; what is wrong with it goes to its faults.
    #[must_use]
    pub fn of(loaded: &mut Loaded) -> Self {
        let mappings = Mappings::compile(&loaded.config, &mut loaded.faults);
        let access = Access::compile(&loaded.config, &mut loaded.faults);
        if let Err((path, text)) = server_config(&loaded.config.settings.tls) {
            loaded.faults.add(path, text);
        }
        Self { config: loaded.config.clone(), mappings, access: Arc::new(access) }
    }

    /// What clients are served by, over these definitions and this cache.
    pub(super) fn edition(&self, owned: &Arc<Owned>) -> Result<Edition, Failure> {
        let settings = &self.config.settings;
        let tls = server_config(&settings.tls).map_err(|(path, text)| Failure::fault(path, &text))?;
        Ok(Edition {
            router: Arc::new(Router::new(owned.mappings.keyspace.clone(), &settings.security.deny)),
            owned: owned.clone(),
            access: self.access.clone(),
            policy: Policy {
                limits: Arc::new(descriptors::make_room(settings)),
                restores: settings.pubsub.on_loss == OnLoss::Restore,
            },
            tls,
        })
    }
}

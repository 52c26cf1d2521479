//! One reading of the configuration, compiled: at start, and again at every SIGHUP.

use std::sync::Arc;

use rustls::ServerConfig;

use super::descriptors;
use crate::access::{Access, Token};
use crate::config::{Config, Loaded, OnLoss};
use crate::dispatch::{Owned, Policy};
use crate::mapping::Mappings;
use crate::route::Router;
use crate::server::{Edition, server_config};

/// The token in a file; none without a file.
///
/// # Errors
/// Why it cannot be had; never its text.
fn token(path: &str) -> Result<Option<Token>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    match text.trim() {
        "" => Err(format!("{path}: is empty; put the token there, `openssl rand -hex 32` makes one")),
        text => Ok(Some(Token::of(text))),
    }
}

/// What the configuration says.
#[derive(Debug)]
pub struct Reading {
    /// The settings and blocks.
    pub config: Config,
    /// The mappings among them.
    pub mappings: Mappings,
    /// The users among them.
    pub access: Arc<Access>,
    /// What `rediss://` addresses show.
    tls: Option<Arc<ServerConfig>>,
    /// What the admin port asks for.
    pub(super) token: Option<Token>,
}

impl Reading {
    /// Compiles what was read; what is wrong with it goes to its faults.
    #[must_use]
    pub fn of(loaded: &mut Loaded) -> Self {
        let mappings = Mappings::compile(&loaded.config, &mut loaded.faults);
        let access = Access::compile(&loaded.config, &mut loaded.faults);
        let settings = &loaded.config.settings;
        let (tls, token) = (server_config(&settings.tls), token(&settings.admin.token_file));
        let tls = tls.unwrap_or_else(|(path, text)| {
            loaded.faults.add(path, text);
            None
        });
        let token = token.unwrap_or_else(|text| {
            loaded.faults.add("admin.token_file", text);
            None
        });
        Self { config: loaded.config.clone(), mappings, access: Arc::new(access), tls, token }
    }

    /// What clients are served by, over these definitions and this cache.
    pub(super) fn edition(&self, owned: &Arc<Owned>) -> Edition {
        let settings = &self.config.settings;
        let router = Router::new(owned.mappings.keyspace.clone(), &settings.security.deny);
        Edition {
            router: Arc::new(if settings.upstream.url.is_empty() { router.in_front_of_private() } else { router }),
            owned: owned.clone(),
            access: self.access.clone(),
            policy: Policy {
                limits: Arc::new(descriptors::make_room(settings)),
                restores: settings.pubsub.on_loss == OnLoss::Restore,
            },
            tls: self.tls.clone(),
        }
    }
}

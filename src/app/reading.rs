//! One reading of the configuration, checked and compiled: at start, and again at every SIGHUP.

use std::sync::Arc;

use rustls::ServerConfig;

use super::descriptors;
use crate::access::{Access, Token};
use crate::command::suggestion;
use crate::config::{Config, Faults, Loaded, OnLoss, Ping, ReadFrom, Settings, TlsVerify, Upstream};
use crate::dispatch::{ModeOrders, Owned};
use crate::inspect::About;
use crate::mapping::{Mappings, Modes};
use crate::near::{self, Near};
use crate::quota::{Allowance, Whose};
use crate::route::Router;
use crate::server::{Edition, server_config};
use crate::session::Policy;
use crate::store::Store;
use crate::telemetry::Traces;
use crate::telemetry::metrics::LimitMetrics;
use crate::upstream::Topology;

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

/// Checks the addresses of the upstream and the store, without connecting to them.
fn addresses(settings: &Settings, mappings: &Mappings, faults: &mut Faults) {
    if !settings.upstream.url.is_empty() {
        match Topology::parse(&settings.upstream) {
            Ok(topology) if topology.is_unverified() => {
                let text = "nothing of the upstream is verified, and whoever stands between can read and change \
                    everything; a server that nobody vouches for can be verified by its fingerprint";
                faults.doubt("upstream.tls_verify", text);
            }
            Ok(topology) => {
                for mapping in mappings.list.iter().filter(|mapping| mapping.config.mirror && topology.is_cluster()) {
                    let text = "is not for a cluster: what is written there is not brought to its nodes";
                    faults.add(format!("{}.mirror", mapping.config.path), text);
                }
            }
            Err(text) => faults.add("upstream.url", text),
        }
    }
    let Upstream { url, sentinel_username, sentinel_password, .. } = &settings.upstream;
    if !sentinel_password.is_empty() && !url.contains("+sentinel://") {
        faults.doubt("upstream.sentinel_password", "is for redis+sentinel:// alone, and nobody is given it");
    }
    if settings.upstream.tls_verify != TlsVerify::Full && !url.starts_with("rediss") && !url.starts_with("valkeys") {
        faults.doubt("upstream.tls_verify", "is for rediss:// alone, and nothing is verified of this upstream.url");
    }
    if !sentinel_username.is_empty() && sentinel_password.is_empty() {
        faults.doubt("upstream.sentinel_username", "without upstream.sentinel_password nobody logs in with it");
    }
    if !faults.concern("store")
        && let Err((setting, text)) = Store::is_readable(&settings.store)
    {
        faults.add(setting, text);
    }
}

/// Settings of replicas that have no effect beside the others.
fn doubt_replicas(upstream: &Upstream, faults: &mut Faults) {
    let Upstream { read_from, read_keys, zone, .. } = upstream;
    if *read_from != ReadFrom::Primary && read_keys.is_empty() {
        let text = "has no effect, because upstream.read_keys names no keys; [\"*\"] are all that the upstream holds";
        faults.doubt("upstream.read_from", text);
    }
    if *read_from == ReadFrom::Primary && !read_keys.is_empty() {
        let text = "has no effect, because upstream.read_from is \"primary\"; write \"replica\" or \"nearest\" there";
        faults.doubt("upstream.read_keys", text);
    }
    if *read_from == ReadFrom::Primary && !zone.is_empty() {
        faults.doubt("upstream.zone", "has no effect, because upstream.read_from is \"primary\": no replica is read");
    }
}

/// Adds warnings about what works and is perhaps not what was meant.
fn doubts(settings: &Settings, mappings: &Mappings, faults: &mut Faults) {
    doubt_replicas(&settings.upstream, faults);
    for (i, name) in settings.security.deny.iter().enumerate() {
        if let Some(suggestion) = suggestion(name) {
            let text = format!(
                "'{name}' is no command that is known, and denies nothing but a module's; did you mean {suggestion}?"
            );
            faults.doubt(format!("security.deny[{i}]"), text);
        }
    }
    for mapping in mappings.list.iter().filter(|mapping| mapping.config.mirror && !mapping.config.is_written()) {
        let text = "is for mappings with write = \"through\" or \"deferred\": nothing of this one is ever brought";
        faults.doubt(format!("{}.mirror", mapping.config.path), text);
    }
    if settings.server.reuse_port
        && let Some(mapping) = mappings.list.iter().find(|mapping| mapping.config.defers())
    {
        let text = format!(
            "two sidecars on one port have two journals, and what the one that stops has not saved waits in its own: \
             take over by socket activation, because '{}' defers writes",
            mapping.pattern.text()
        );
        faults.doubt("server.reuse_port", text);
    }
    if Traces::tell_headers_in_clear(&settings.traces) {
        let text = "the headers of OTEL_EXPORTER_OTLP_HEADERS go to it over http://, and whoever stands between can \
            read them: write https://";
        faults.doubt("traces.endpoint", text);
    }
    for mapping in mappings.list.iter().filter(|mapping| mapping.is_blind()) {
        let path = &mapping.config.path;
        // Of a watch that cannot be read, that is said.
        if !faults.concern_elements_of(&format!("{path}.watch")) {
            let text = "has a ttl and no watch: what changes in the store is seen only after its ttl; name the tables \
                in watch";
            faults.doubt(format!("{path}.query"), text);
        }
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
    /// Where and when it was read.
    about: Arc<About>,
    /// The certificate of `rediss://` addresses.
    tls: Option<Arc<ServerConfig>>,
    /// The token of the admin port.
    pub(super) token: Option<Token>,
}

impl Reading {
    /// Compiles what was read; what is wrong with it is added to its faults.
    #[must_use]
    pub fn of(loaded: &mut Loaded) -> Self {
        let mappings = Mappings::compile(&loaded.config, &mut loaded.faults);
        let access = Access::compile(&loaded.config, &mut loaded.faults);
        near::check(&loaded.config, &mappings.keyspace, &mut loaded.faults);
        let settings = &loaded.config.settings;
        addresses(settings, &mappings, &mut loaded.faults);
        doubts(settings, &mappings, &mut loaded.faults);
        let (tls, token) = (server_config(&settings.tls), token(&settings.admin.token_file));
        let tls = tls.unwrap_or_else(|(path, text)| {
            loaded.faults.add(path, text);
            None
        });
        let token = token.unwrap_or_else(|text| {
            loaded.faults.add("admin.token_file", text);
            None
        });
        let settings = &loaded.config.settings;
        if let Err((setting, text)) = Traces::try_out(&settings.traces) {
            loaded.faults.add(setting, text);
        }
        let about = About::read_now(loaded.faults.file(), settings.limits.clients, settings.journal.max_bytes.0);
        let config = loaded.config.clone();
        Self { config, mappings, access: Arc::new(access), about: Arc::new(about), tls, token }
    }

    /// Goes on with what users have taken of what they may.
    pub(super) fn inherit(&mut self, before: &Self) {
        if let Some(access) = Arc::get_mut(&mut self.access) {
            access.inherit(&before.access);
        }
    }

    /// Shows what is counted of each limit that is given, before it was reached.
    pub(super) fn show_limits(&self, metrics: &LimitMetrics) {
        let of = |whose: Whose, name, allowance: Allowance| {
            let settings: Vec<_> = allowance.limits().map(|limit| (name, whose.setting(limit))).collect();
            settings
        };
        let (users, caches) = (self.config.users.iter(), self.config.caches.iter());
        metrics.show(
            users.flat_map(|block| of(Whose::User, block.name.as_str(), Allowance::of_user(block))),
            caches.flat_map(|block| of(Whose::Mapping, block.key.as_str(), Allowance::of_mapping(block))),
        );
    }

    /// The edition for clients, over these definitions and this cache, with what is kept of the upstream.
    pub(super) fn edition(
        &self,
        owned: &Arc<Owned>,
        near: Option<Arc<Near>>,
        modes: &Arc<Modes>,
        orders: &ModeOrders,
    ) -> Edition {
        let settings = &self.config.settings;
        let kinds = owned.mappings.list.iter().map(|mapping| mapping.kind).collect();
        let router = Router::new(owned.mappings.keyspace.clone(), kinds, &settings.security.deny);
        let router = router.in_modes(modes.clone());
        let router = if settings.server.ping == Ping::Upstream { router.passing_pings_on() } else { router };
        Edition {
            router: Arc::new(if settings.upstream.url.is_empty() { router.in_front_of_private() } else { router }),
            owned: owned.clone(),
            near,
            access: self.access.clone(),
            about: self.about.clone(),
            modes: orders.clone(),
            policy: Policy {
                limits: Arc::new(descriptors::make_room(settings)),
                resubscribes: settings.pubsub.on_loss == OnLoss::Restore,
                subscriber_output: settings.pubsub.subscriber_output.0,
                audits: !settings.audit.file.as_os_str().is_empty(),
                traces: settings.traces.are_on(),
                is_followed: settings.traces.are_on() || !settings.audit.file.as_os_str().is_empty(),
                sample: settings.traces.sample,
            },
            tls: self.tls.clone(),
        }
    }
}

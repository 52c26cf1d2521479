//! `hearthside import`: copies the keys of the upstream that a mapping matches into the store.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Settings, nearest};
use crate::import::{self, Ends, Wishes};
use crate::mapping::{Kind, Mapping, Mappings};
use crate::store::Store;
use crate::upstream::Topology;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ImportOrder {
    /// The key pattern of a mapping.
    pub mapping: String,
    /// So many keys are read and written at once.
    pub batch: usize,
    /// So many keys are copied in a second, at most.
    pub rate: Option<u32>,
    /// Nothing is written.
    pub dry_run: bool,
    /// Keys that both sides have already are compared, too.
    pub verify: bool,
    /// Keys that end are copied although the mapping has no column for that.
    pub forget_ttl: bool,
}

/// Copies them: what was done, and whether all is well.
///
/// # Errors
/// Why nothing was done.
pub async fn import(config: &Config, mappings: &Mappings, order: &ImportOrder) -> Result<(String, bool), String> {
    let settings = &config.settings;
    let mapping = named(mappings, &order.mapping)?;
    if mapping.kind == Kind::Definition {
        return Err(format!(
            "'{}' is a definition, which is loaded as a whole and never written: fill its table or file yourself",
            order.mapping
        ));
    }
    let topology = upstream(settings)?;
    let store = Store::connect(&settings.store).await.map_err(|error| format!("store.url: {error}"))?;
    store.choose_feed(&mappings.list).await.map_err(|error| error.to_string())?;
    let plan = store.plan(mapping).await.map_err(|error| format!("'{}': {error}", order.mapping))?;
    if let Some(why) = import::unable(mapping, &plan) {
        return Err(why);
    }
    warn_of_mode(mapping);
    if let Some(text) = import::elsewhere(&topology, settings.upstream.connect_timeout).await {
        tracing::warn!("{text}");
    }
    let wishes = Wishes {
        batch: order.batch,
        rate: order.rate,
        is_dry: order.dry_run,
        compares_all: order.verify,
        forgets_ends: order.forget_ttl,
    };
    let keyspace = &mappings.keyspace;
    let ends = Ends { topology: &topology, upstream: &settings.upstream, keyspace, store: &store, plan: &plan };
    let (report, ended) = import::import(ends, wishes, stopped_by_signals()?).await;
    let (mut text, is_well) = (report.to_string(), report.is_well() && ended.is_ok());
    if let Err(trouble) = ended {
        text.push_str(&format!("ended before its end: {trouble}; run it again, what is done is passed over\n"));
    }
    Ok((text, is_well))
}

fn named<'m>(mappings: &'m Mappings, name: &str) -> Result<&'m Mapping, String> {
    let patterns = || mappings.list.iter().map(|mapping| mapping.pattern.text());
    let found = mappings.list.iter().find(|mapping| mapping.pattern.text() == name);
    found.ok_or_else(|| {
        let meant = nearest(name, patterns()).map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
        let known: Vec<&str> = patterns().collect();
        format!("no mapping has the key pattern '{name}'{meant}; the configuration has: {}", known.join(", "))
    })
}

fn upstream(settings: &Settings) -> Result<Topology, String> {
    if settings.upstream.url.is_empty() {
        return Err("upstream.url is empty: there is no upstream whose keys could be copied".to_owned());
    }
    Topology::parse(&settings.upstream).map_err(|error| format!("upstream.url: {error}"))
}

/// What the configuration's mode means for what is copied.
fn warn_of_mode(mapping: &Mapping) {
    let (name, mode) = (mapping.pattern.text(), mapping.config.mode);
    if !mode.owns() {
        tracing::info!(
            mapping = name,
            mode = mode.name(),
            "the mapping's mode lets clients write to the upstream: what they change there after it was copied is not \
             in the store"
        );
    }
}

/// Ctrl-C, and what a supervisor sends, end it behind the keys that are under way.
fn stopped_by_signals() -> Result<CancellationToken, String> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (mut signals, stop) = (signal(kind).map_err(|error| error.to_string())?, stop.clone());
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                stop.cancel();
            }
        });
    }
    Ok(stop)
}

//! Checks, before anything runs, that each mapping can be read from its store or file, and says why a sidecar does not
//! start.

use std::fmt;
use std::path::Path;

use crate::config::{self, Config, Fault, Faults};
use crate::journal::Journal;
use crate::mapping::{Mapping, Mappings};
use crate::store::file::load_file;
use crate::store::{Store, StoreError};
use crate::upstream::{Target, probe};

/// Why a sidecar does not run.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is faulty: exit code 2.
    Faults(Vec<Fault>),
    /// Something it needs cannot be had: exit code 1.
    Start(String),
}

impl Failure {
    pub(super) fn fault(path: &str, message: &str) -> Self {
        Self::Faults(vec![Fault { path: path.to_owned(), message: message.to_owned() }])
    }

    pub(super) fn bind(setting: &str, address: &str, error: &std::io::Error) -> Self {
        Self::Start(format!("{setting}: cannot listen on {address}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(text) => f.write_str(text),
            Self::Faults(faults) => {
                let lines: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

/// Which servers are asked whether a configuration fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// None: only files are checked.
    Nobody,
    /// The store, if it answers.
    Store,
    /// The store and the upstream, which must answer, and the store for triggers too.
    Everybody,
}

/// Everything that is wrong with the mappings in the store and the files: tables, columns, entries and, with
/// `triggers`, missing triggers; then what is not certain is logged, too.
///
/// # Errors
/// The store's, when it does not answer any more: that is no fault of a mapping.
async fn faults(store: &Store, mappings: &Mappings, triggers: bool) -> Result<Vec<Fault>, StoreError> {
    let mut faults = Vec::new();
    for mapping in &mappings.list {
        match &mapping.config.file {
            Some(path) => faults.extend(file_fault(mapping, path)),
            None => store_faults(store, mapping, triggers, &mut faults).await?,
        }
    }
    Ok(faults)
}

/// What is wrong with a mapping that is in the store. Triggers and rights are asked for where its tables fit.
async fn store_faults(
    store: &Store,
    mapping: &Mapping,
    triggers: bool,
    faults: &mut Vec<Fault>,
) -> Result<(), StoreError> {
    let before = faults.len();
    match store.plan(mapping).await {
        Ok(plan) => {
            let (path, doubts) = (&mapping.config.path, plan.doubts().iter().filter(|_| triggers));
            doubts.for_each(|(key, doubt)| tracing::warn!(setting = format!("{path}.{key}"), "{doubt}"));
            faults.extend(plan.unsavable().map(|(key, why)| fault(mapping, key, why.clone())));
        }
        Err(StoreError::Faults(list)) => {
            faults.extend(list.into_iter().map(|(key, message)| fault(mapping, key, message)));
        }
        Err(error) if error.is_final() => return Err(error),
        Err(error) => faults.push(fault(mapping, "key", error.to_string())),
    }
    if !triggers {
        return Ok(());
    }
    let fits = faults.len() == before;
    // A name that no table can have is a fault already.
    let lacking = store.lacking_rights(mapping).await.unwrap_or_default();
    faults.extend(lacking.into_iter().map(|line| fault(mapping, "key", line)));
    if fits {
        faults.extend(missing_triggers(store, mapping).await?);
    }
    Ok(())
}

async fn missing_triggers(store: &Store, mapping: &Mapping) -> Result<Vec<Fault>, StoreError> {
    let missing = match store.missing_triggers(mapping).await {
        Ok(missing) => missing,
        Err(error) if error.is_final() => return Err(error),
        Err(error) => return Ok(vec![fault(mapping, "watch", error.to_string())]),
    };
    let text = |name| format!("change trigger missing on {name}; install it with `hearthside triggers --install`");
    Ok(missing.into_iter().map(|name| fault(mapping, "watch", text(name))).collect())
}

/// A fault of a mapping's block.
fn fault(mapping: &Mapping, key: &str, message: String) -> Fault {
    Fault { path: format!("{}.{key}", mapping.config.path), message }
}

/// What is wrong with a mapping that is a file.
fn file_fault(mapping: &Mapping, path: &Path) -> Option<Fault> {
    load_file(mapping, path).err().map(|error| fault(mapping, "file", error.to_string()))
}

/// Adds what only the parts know: files and, if they are asked, the upstream, and the store's tables, columns and
/// triggers.
pub async fn check(config: &Config, mappings: &Mappings, asks: Asks, faults: &mut Faults) {
    let settings = &config.settings;
    if asks == Asks::Everybody {
        ask_upstream(&settings.upstream, faults).await;
        if mappings.list.iter().any(|mapping| mapping.config.defers())
            && let Err(text) = Journal::may_be_at(&settings.journal.path)
        {
            faults.add("journal.path", text);
        }
    }
    // With faulty settings the store cannot be asked.
    let found = if asks == Asks::Nobody || faults.concern("store") {
        let files = mappings.list.iter().filter_map(|mapping| file_fault(mapping, mapping.config.file.as_ref()?));
        files.collect()
    } else {
        ask_store(&settings.store, mappings, asks == Asks::Everybody, faults).await
    };
    found.into_iter().for_each(|fault| faults.add(fault.path, fault.message));
}

/// What is wrong with the mappings in the store and the files. A store that does not answer is a fault only if it must.
async fn ask_store(settings: &config::Store, mappings: &Mappings, must: bool, faults: &mut Faults) -> Vec<Fault> {
    let asked = match Store::connect_to_check(settings).await {
        Ok(store) => asked(&store, mappings, must).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(found) => return found,
        Err(StoreError::Refused(text)) => faults.add("store.url", text),
        Err(error) if must => faults.add("store.url", error.to_string()),
        Err(_) => {}
    }
    Vec::new()
}

async fn asked(store: &Store, mappings: &Mappings, must: bool) -> Result<Vec<Fault>, StoreError> {
    let found = faults(store, mappings, must).await?;
    if must && !store.standing().takes_writes() {
        tracing::warn!(setting = "store.url", "{}", store.standing());
    }
    if must && found.is_empty() {
        let doubts = store.trigger_doubts(&mappings.list).await?;
        doubts.iter().for_each(|doubt| tracing::warn!("{doubt}"));
    }
    Ok(found)
}

async fn ask_upstream(settings: &config::Upstream, faults: &mut Faults) {
    if settings.url.is_empty() || faults.concern("upstream") {
        return;
    }
    if let Ok(target) = Target::parse(settings)
        && let Err(error) = probe(&target, settings.connect_timeout).await
    {
        faults.add("upstream.url", format!("{} does not answer: {error}", target.name()));
    }
}

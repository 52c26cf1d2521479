//! What can be wrong before anything runs.

use std::fmt;

use crate::config::{Config, Fault, Faults};
use crate::mapping::Mappings;
use crate::record::Table;
use crate::store::file::load_file;
use crate::store::{Plan, Store, StoreError};
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

    pub(super) fn bind(address: &str, error: &std::io::Error) -> Self {
        Self::Start(format!("cannot listen on {address}: {error}"))
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

/// What one mapping is read from.
pub(super) enum Source {
    Statements(Box<Plan>),
    /// A file, and what it holds.
    File(Table),
    Faulty,
}

/// The sources of every mapping, and everything the store and the files have
/// against them: tables, columns, entries and, if asked, triggers and what is not certain.
///
/// # Errors
/// The store's, when it does not answer any more: that is no fault of a mapping.
pub(super) async fn plans(
    store: &Store,
    mappings: &Mappings,
    triggers: bool,
) -> Result<(Vec<Source>, Vec<Fault>), StoreError> {
    let (mut sources, mut faults) = (Vec::new(), Vec::new());
    for mapping in &mappings.list {
        let at = |key: &str| format!("{}.{key}", mapping.config.path);
        if let Some(path) = &mapping.config.file {
            sources.push(match load_file(mapping, path) {
                Ok(records) => Source::File(records),
                Err(error) => {
                    faults.push(Fault { path: at("file"), message: error.to_string() });
                    Source::Faulty
                }
            });
            continue;
        }
        let planned = store.plan(mapping).await;
        match &planned {
            Ok(_) => {}
            Err(StoreError::Faults(list)) => {
                faults.extend(list.iter().map(|(key, message)| Fault { path: at(key), message: message.clone() }));
            }
            Err(error) if error.is_final() => return Err(error.clone()),
            Err(error) => faults.push(Fault { path: at("key"), message: error.to_string() }),
        }
        if let Ok(plan) = &planned
            && triggers
        {
            plan.doubts().iter().for_each(|(key, doubt)| tracing::warn!(setting = at(key), "{doubt}"));
        }
        sources.push(planned.map_or(Source::Faulty, |plan| Source::Statements(Box::new(plan))));
        if triggers {
            match store.missing_triggers(mapping).await {
                Ok(missing) => faults.extend(missing.into_iter().map(|name| Fault {
                    path: at("watch"),
                    message: format!(
                        "change trigger missing on {name}; install it with `hearthside triggers --install`"
                    ),
                })),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => faults.push(Fault { path: at("watch"), message: error.to_string() }),
            }
        }
    }
    Ok((sources, faults))
}

/// Adds what only the parts know: the upstream's URL and, where the store answers, its tables and columns.
/// With `connect` a store or upstream that does not answer is a fault too, and triggers are looked for.
pub async fn check(config: &Config, mappings: &Mappings, connect: bool, faults: &mut Faults) {
    let settings = &config.settings;
    if !settings.upstream.url.is_empty() {
        match Target::parse(&settings.upstream) {
            Err(text) => faults.add("upstream.url", text),
            Ok(target) if connect && !faults.concern("upstream") => {
                if let Err(error) = probe(&target, settings.upstream.connect_timeout).await {
                    faults.add("upstream.url", format!("{} does not answer: {error}", target.name()));
                }
            }
            Ok(_) => {}
        }
    }
    // By faulty settings nobody can be asked.
    if faults.concern("store") {
        return;
    }
    let found = match Store::connect_to_check(&settings.store).await {
        Ok(store) => plans(&store, mappings, connect).await.map(|(_, faults)| faults),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => found.into_iter().for_each(|fault| faults.add(fault.path, fault.message)),
        Err(StoreError::Refused(text)) => faults.add("store.url", text),
        Err(error) if connect => faults.add("store.url", error.to_string()),
        Err(_) => {}
    }
}

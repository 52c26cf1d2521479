//! What can be wrong before anything runs.

use std::fmt;

use crate::config::{Config, Fault, Faults};
use crate::mapping::Mappings;
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

/// The statements of every mapping, none for files and faulty ones, and everything the store and the files have
/// against them: tables, columns, entries and, if asked, triggers.
pub(super) async fn plans(store: &Store, mappings: &Mappings, triggers: bool) -> (Vec<Option<Plan>>, Vec<Fault>) {
    let (mut plans, mut faults) = (Vec::new(), Vec::new());
    for mapping in &mappings.list {
        let at = |key: &str| format!("{}.{key}", mapping.config.path);
        if let Some(path) = &mapping.config.file {
            let loaded = load_file(mapping, path);
            faults.extend(loaded.err().map(|error| Fault { path: at("file"), message: error.to_string() }));
            plans.push(None);
            continue;
        }
        let planned = store.plan(mapping).await;
        match &planned {
            Ok(_) => {}
            Err(StoreError::Faults(list)) => {
                faults.extend(list.iter().map(|(key, message)| Fault { path: at(key), message: message.clone() }));
            }
            Err(error) => faults.push(Fault { path: at("key"), message: error.to_string() }),
        }
        plans.push(planned.ok());
        if triggers {
            match store.missing_triggers(mapping).await {
                Ok(missing) => faults.extend(missing.into_iter().map(|name| Fault {
                    path: at("watch"),
                    message: format!(
                        "change trigger missing on {name}; install it with `hearthside triggers --install`"
                    ),
                })),
                Err(error) => faults.push(Fault { path: at("watch"), message: error.to_string() }),
            }
        }
    }
    (plans, faults)
}

/// Adds what only the parts know: the upstream's URL and, where the store answers, its tables and columns.
/// With `connect` a store or upstream that does not answer is a fault too, and triggers are looked for.
pub async fn check(config: &Config, mappings: &Mappings, connect: bool, faults: &mut Faults) {
    let settings = &config.settings;
    if !settings.upstream.url.is_empty() {
        match Target::parse(&settings.upstream) {
            Err(text) => faults.add("upstream.url", text),
            Ok(target) if connect => {
                if let Err(error) = probe(&target, settings.upstream.connect_timeout).await {
                    faults.add("upstream.url", format!("{} does not answer: {error}", target.name()));
                }
            }
            Ok(_) => {}
        }
    }
    match Store::connect_to_check(&settings.store).await {
        Ok(store) => {
            for fault in plans(&store, mappings, connect).await.1 {
                faults.add(fault.path, fault.message);
            }
        }
        Err(StoreError::Unavailable(text)) if connect => {
            faults.add("store.url", format!("the store does not answer: {text}"))
        }
        Err(StoreError::Refused(text)) => faults.add("store.url", text),
        Err(_) => {}
    }
}

//! What can be wrong before anything runs.

use std::fmt;

use crate::config::{self, Config, Fault, Faults};
use crate::journal::Journal;
use crate::mapping::{Mapping, Mappings};
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

/// What one mapping is read from.
pub(super) enum Source {
    Statements(Box<Plan>),
    /// A file, and what it holds.
    File(Table),
    Faulty,
}

/// Who is asked whether a configuration fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Nobody: files alone are looked at.
    Nobody,
    /// The store, if it answers.
    Store,
    /// The store and the upstream, which must answer, and the store for triggers too.
    Everybody,
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
        if let Some(source) = from_file(mapping, &mut faults) {
            sources.push(source);
            continue;
        }
        let at = |key: &str| format!("{}.{key}", mapping.config.path);
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

/// The source of a mapping that is a file.
fn from_file(mapping: &Mapping, faults: &mut Vec<Fault>) -> Option<Source> {
    let path = mapping.config.file.as_ref()?;
    Some(load_file(mapping, path).map_or_else(
        |error| {
            faults.push(Fault { path: format!("{}.file", mapping.config.path), message: error.to_string() });
            Source::Faulty
        },
        Source::File,
    ))
}

/// Adds what only the parts know: files and, if they are asked, the upstream, and the store's tables, columns and triggers.
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
    let mut found = Vec::new();
    // By faulty settings nobody can be asked.
    if asks == Asks::Nobody || faults.concern("store") {
        mappings.list.iter().for_each(|mapping| drop(from_file(mapping, &mut found)));
    } else {
        let asked = match Store::connect_to_check(&settings.store).await {
            Ok(store) => plans(&store, mappings, asks == Asks::Everybody).await.map(|(_, faults)| faults),
            Err(error) => Err(error),
        };
        match asked {
            Ok(list) => found = list,
            Err(StoreError::Refused(text)) => faults.add("store.url", text),
            Err(error) if asks == Asks::Everybody => faults.add("store.url", error.to_string()),
            Err(_) => {}
        }
    }
    found.into_iter().for_each(|fault| faults.add(fault.path, fault.message));
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

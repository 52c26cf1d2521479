//! Checks, before anything runs, that each mapping can be read from its store or file, and says why a sidecar does not
//! start.

use std::borrow::Borrow;
use std::fmt;
use std::path::Path;

use super::advice::advise;
use crate::config::{self, Config, Fault, Faults, Mode};
use crate::import::{Hidden, elsewhere, hidden};
use crate::journal::Journal;
use crate::mapping::{Kind, Mapping, Mappings};
use crate::store::file::load_file;
use crate::store::triggers::Lack;
use crate::store::{Store, StoreError};
use crate::upstream::{NotTold, Topology, probe};

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

/// What the store and the files say of the mappings.
#[derive(Default)]
struct Found {
    /// What is not certain is told, too.
    tells_doubts: bool,
    /// What is wrong.
    faults: Vec<Fault>,
    /// What works, and is perhaps not what was meant.
    doubts: Vec<Fault>,
}

impl Found {
    fn doubt(&mut self, path: &str, message: impl fmt::Display) {
        self.doubts.push(Fault { path: path.to_owned(), message: message.to_string() });
    }

    fn tell(self, faults: &mut Faults) {
        self.faults.into_iter().for_each(|fault| faults.add(fault.path, fault.message));
        self.doubts.into_iter().for_each(|doubt| faults.doubt(doubt.path, doubt.message));
    }
}

impl Found {
    /// Whether a mapping that is in the store fits its tables; adds what is wrong beside the rights that it lacks and,
    /// where that is wanted, what is not certain.
    async fn fits(&mut self, store: &Store, mapping: &Mapping, lacks: &[&Lack]) -> Result<bool, StoreError> {
        // What it may not do is said with the statement that gives the right.
        let is_said = |text: &str| lacks.iter().any(|lack| lack.text == text || text.ends_with(DENIED));
        let unsaid = |faults: &[(&'static str, String)]| {
            let others = faults.iter().filter(|(_, text)| !is_said(text));
            others.map(|(key, message)| fault(mapping, key, message.clone())).collect::<Vec<_>>()
        };
        let plan = match store.plan(mapping).await {
            Ok(plan) => plan,
            Err(StoreError::Faults(list)) => {
                self.faults.extend(unsaid(&list));
                return Ok(false);
            }
            Err(StoreError::Overloaded(text) | StoreError::Transient(text)) if self.tells_doubts => {
                self.faults.push(busy(mapping, &text));
                return Ok(false);
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                let is_said = !lacks.is_empty() && error.to_string().ends_with(DENIED);
                self.faults.extend((!is_said).then(|| fault(mapping, "key", error.to_string())));
                return Ok(false);
            }
        };
        let mut faults = plan.unsavable().to_vec();
        if self.tells_doubts {
            self.doubts.extend(plan.doubts().iter().map(|(key, doubt)| fault(mapping, key, doubt.clone())));
            if faults.is_empty() {
                match store.write_fault(&plan).await {
                    Err(StoreError::Overloaded(text) | StoreError::Transient(text)) => {
                        self.faults.push(busy(mapping, &text));
                        return Ok(true);
                    }
                    fault => faults.extend(fault?),
                }
            }
        }
        self.faults.extend(unsaid(&faults));
        Ok(true)
    }
}

/// Everything that is wrong with the mappings in the store and the files: tables, columns, entries and, where `must` is
/// said, rights and missing triggers; then also what is not certain.
///
/// # Errors
/// The store's, when it does not answer any more: that is no fault of a mapping.
async fn faults(store: &Store, mappings: &Mappings, must: bool) -> Result<Found, StoreError> {
    let mappings = &mappings.list;
    let lacks = if must { store.lacking_rights(mappings).await? } else { Vec::new() };
    let (mut found, mut fitting) = (Found { tells_doubts: must, ..Found::default() }, Vec::new());
    for (at, mapping) in mappings.iter().enumerate() {
        match &mapping.config.file {
            Some(path) => found.faults.extend(file_fault(mapping, path)),
            None => {
                let concerned: Vec<_> = lacks.iter().filter(|lack| lack.mappings.contains(&at)).collect();
                let fits = found.fits(store, mapping, &concerned).await?;
                fitting.extend(fits.then_some(mapping));
            }
        }
    }
    found.faults.extend(lacks.into_iter().filter_map(|lack| shared(mappings, "key", &lack, &lack.text)));
    if must {
        found.faults.extend(missing_triggers(store, &fitting).await?);
    }
    Ok(found)
}

async fn missing_triggers(store: &Store, mappings: &[&Mapping]) -> Result<Vec<Fault>, StoreError> {
    let lacks = store.lacking_triggers(mappings).await?;
    Ok(lacks.iter().filter_map(|lack| shared(mappings, "watch", lack, &lack.text)).collect())
}

/// How the text of an error ends that a lack of rights brought about.
/// Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const DENIED: &str = "(42501)";

/// One fault for all mappings that lack the same, at the place of the first.
fn shared<M: Borrow<Mapping>>(mappings: &[M], key: &str, lack: &Lack, text: &str) -> Option<Fault> {
    let mut concerned = lack.mappings.iter().filter_map(|at| mappings.get(*at)).map(Borrow::borrow);
    let first: &Mapping = concerned.next()?;
    let others: Vec<String> = concerned.map(|mapping: &Mapping| format!("'{}'", mapping.pattern.text())).collect();
    let more = if others.is_empty() { String::new() } else { format!(" (also for {})", others.join(", ")) };
    Some(fault(first, key, format!("{text}{more}")))
}

/// A fault of a mapping's block.
fn fault(mapping: &Mapping, key: &str, message: String) -> Fault {
    Fault { path: format!("{}.{key}", mapping.config.path), message }
}

/// A mapping that could not be checked now: a table that it needs is locked, or a server behind it is away.
fn busy(mapping: &Mapping, text: &str) -> Fault {
    let (key, of) = match &mapping.config.table {
        Some(table) => ("table", format!("the table {table}, or another one that it needs,")),
        None => ("query", "a table that it needs".to_owned()),
    };
    let pattern = mapping.pattern.text();
    fault(mapping, key, format!("the mapping '{pattern}' could not be checked: {of} is locked, slow or away: {text}"))
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
        ask_upstream(&settings.upstream, mappings, faults).await;
        if mappings.list.iter().any(|mapping| mapping.config.defers())
            && let Err(text) = Journal::may_be_at(&settings.journal.path)
        {
            faults.add("journal.path", text);
        }
    }
    // With faulty settings the store cannot be asked.
    let found = if asks == Asks::Nobody || faults.concern("store") {
        let files = mappings.list.iter().filter_map(|mapping| file_fault(mapping, mapping.config.file.as_ref()?));
        Found { faults: files.collect(), ..Found::default() }
    } else {
        ask_store(&settings.store, mappings, asks == Asks::Everybody, faults).await
    };
    found.tell(faults);
    // Somebody checks it, and nothing is wrong.
    if asks != Asks::Store && faults.is_empty() {
        advise(settings, mappings, faults);
    }
}

/// What the store says of the mappings, and the files. A store that does not answer is a fault only if it must.
async fn ask_store(settings: &config::Store, mappings: &Mappings, must: bool, faults: &mut Faults) -> Found {
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
    Found::default()
}

async fn asked(store: &Store, mappings: &Mappings, must: bool) -> Result<Found, StoreError> {
    store.choose_feed(&mappings.list).await?;
    let mut found = faults(store, mappings, must).await?;
    if !must {
        return Ok(found);
    }
    let lacking = store.feed_lacks().await?.into_iter();
    found.faults.extend(lacking.map(|message| Fault { path: "store.feed".to_owned(), message }));
    if !store.standing().takes_writes() {
        found.doubt("store.url", store.standing());
    }
    if let Some(doubt) = store.encoding_doubt().await? {
        found.doubt("store.url", doubt);
    }
    if found.faults.is_empty() {
        let doubts = store.trigger_doubts(&mappings.list).await?;
        doubts.into_iter().for_each(|doubt| found.doubt("store.feed", doubt));
    }
    Ok(found)
}

async fn ask_upstream(settings: &config::Upstream, mappings: &Mappings, faults: &mut Faults) {
    if settings.url.is_empty() || faults.concern("upstream") {
        return;
    }
    let Ok(topology) = Topology::parse(settings) else { return };
    match probe(&topology, settings.connect_timeout).await {
        Ok(doubts) => doubts.into_iter().for_each(|doubt| faults.doubt("upstream.url", doubt)),
        Err(NotTold::Silent(error)) => {
            return faults.add("upstream.url", format!("{} does not answer: {error}", topology.name()));
        }
        Err(NotTold::Forbidden(why)) => {
            let text = format!("which node of {} has which keys cannot be looked at: {why}", topology.name());
            return faults.add("upstream.url", text);
        }
    }
    let hiding: Vec<&Mapping> = mappings.list.iter().filter(|mapping| hides(mapping)).collect();
    if mappings.list.iter().any(|mapping| mapping.kind == Kind::Cache)
        && let Some(text) = elsewhere(&topology, settings.connect_timeout).await
    {
        faults.doubt("upstream.url", text);
    }
    match hidden(&topology, settings.connect_timeout, &mappings.keyspace, &hiding).await {
        Ok(counts) => {
            let concerned = hiding.iter().zip(counts).filter(|(_, hidden)| hidden.count > 0);
            concerned.for_each(|(mapping, hidden)| faults.doubt(format!("{}.key", mapping.config.path), words(hidden)));
        }
        Err(why) => faults.doubt("upstream.url", format!("the keys that mappings hide cannot be counted: {why}")),
    }
}

/// The sidecar answers for its keys and asks nobody else, once this configuration is in force.
fn hides(mapping: &Mapping) -> bool {
    mapping.config.mode == Mode::On && mapping.config.percent > 0
}

fn words(Hidden { count, is_all }: Hidden) -> String {
    let (least, keys) = (if is_all { "" } else { "at least " }, if count == 1 { "key" } else { "keys" });
    format!(
        "{least}{count} {keys} of the upstream are hidden by the mapping, which answers for them from the store; look \
         at mode, and at hearthside import (those that the store has by now count, too, until they are removed there)"
    )
}

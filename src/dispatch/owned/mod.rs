//! Owned keys, definitions and cached keys alike: this file is for operators and the change feed, the files beside it
//! are for commands.

pub(super) mod expire;
pub(super) mod loading;
pub mod measured;
pub mod mirror;
pub(super) mod read;
mod schema;
pub(super) mod split;
mod told;
pub(super) mod write;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use super::fallback::Settles;
use super::listing::scans::Scans;
use crate::cache::{Cache, Cause};
use crate::clients::Registry;
use crate::definitions::{Definitions, Reloader};
use crate::errors;
use crate::errors::store_words::for_who_asked;
use crate::inspect::{About, Subject};
use crate::key_events::KeyEvents;
use crate::keys::{MappingId, glob_match, only_text};
use crate::mapping::{Kind, Mapping, Mappings};
use crate::near::Near;
use crate::store::{Change, Coming, RowChange, Store, StoreError, Unavailable, Word};
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{MappingCounts, MappingMetrics, OwnedMetrics};
use crate::telemetry::planted::{is_planted, is_planted_once};
use crate::telemetry::slow::SlowLog;
use crate::telemetry::{Metrics, locked};
use crate::tracking::Tracking;
use crate::upstream::Endpoint;

/// Everything owned.
#[derive(Debug)]
pub struct Owned {
    /// The mappings.
    pub mappings: Arc<Mappings>,
    /// Preloaded records.
    pub definitions: Arc<Definitions>,
    /// Read-through records.
    pub cache: Cache,
    /// Reloads definitions.
    pub reloader: Arc<Reloader>,
    /// Keys that are being settled, because they may still be the upstream's.
    pub settles: Arc<Settles>,
    /// Who keeps which keys, and is told when they change.
    pub tracking: Arc<Tracking>,
    /// Who is told what happens to keys.
    pub events: Arc<KeyEvents>,
    /// SCANs under way.
    pub scans: Scans,
    /// The store behind both.
    pub store: Arc<Store>,
    /// Why the store has not answered yet, until it has.
    pub awaits: Option<Arc<Unavailable>>,
    /// Notified when all plans are to be made again.
    pub reload_asked: Notify,
    /// They are being made again, or were when that ended in a panic.
    pub is_reading_again: AtomicBool,
    /// Notified when the schema is to be looked at.
    pub schema_asked: Notify,
    /// What is counted of owned keys.
    pub metrics: Arc<OwnedMetrics>,
    /// What is shown of each mapping.
    pub mapping_metrics: Arc<MappingMetrics>,
    /// What was slow.
    pub slow: Arc<SlowLog>,
    /// What is counted of each, by its number.
    pub counts: Vec<Arc<MappingCounts>>,
    /// What is kept of the upstream's keys, which is forgotten with what is cached.
    pub near: Mutex<Option<Arc<Near>>>,
}

impl Owned {
    /// Applies one notice of the change feed. It has taken effect when this returns.
    pub fn apply(&self, change: Change) {
        let is_of_keys = matches!(change, Change::Keys(..) | Change::Rows(..));
        assert!(!is_of_keys || !is_planted_once("panic-in-change"), "a planted bug");
        match change {
            Change::Alive(as_of) => {
                self.metrics.feed_delayed(Tick::now().since(as_of));
                self.cache.alive(as_of);
            }
            Change::Schema => self.schema_asked.notify_one(),
            Change::OtherFeed => self.request_reload(),
            // It is for the sidecar as a whole.
            Change::Word(_) => {}
            Change::Retained(bytes) => _ = self.metrics.retained.set(bytes.cast_signed()),
            Change::Keys(keys, from) => keys.iter().for_each(|key| self.changed(key, from.as_deref())),
            Change::Rows(rows, from) => self.changed_rows(&rows, from.as_deref()),
            Change::Coming(coming) => self.comes(&coming),
            Change::Mapping(pattern) => _ = self.changed_pattern(&pattern, Cause::Change(None)),
            Change::Trouble(pattern, _) => {
                if self.changed_pattern(&pattern, Cause::TriggerFailed) {
                    self.metrics.trigger_failed(&pattern);
                }
            }
            Change::Everything => {
                self.metrics.invalidated("everything");
                self.cache.flush_all();
                self.reloader.request_all(false);
            }
            Change::Gap(why) => {
                tracing::warn!(%why, "changes may be missed; the cache is emptied when the change feed is back");
                self.metrics.gaps.inc();
                self.metrics.retained.set(0);
                self.cache.lost();
            }
            Change::StillGap(_) => {}
        }
    }

    fn changed(&self, key: &[u8], from: Option<&str>) {
        let Some((mapping, kind)) = self.told(key) else { return };
        match kind {
            Kind::Definition => self.reloader.request(mapping),
            Kind::Cache => self.cache.changed(key, from),
        }
    }

    /// Says whether a change that may not be seen yet concerns anything here. Definitions are always kept.
    fn comes(&self, coming: &Coming) {
        let from = coming.from.as_deref();
        if from.is_some_and(|from| self.cache.has_ended(from)) {
            coming.see();
        }
        let is_kept = |key: &Bytes| match self.mappings.keyspace.owner(key) {
            None => false,
            Some(mapping) => match self.mappings.list[mapping.index()].kind {
                Kind::Definition => true,
                Kind::Cache => self.cache.keeps(key, from),
            },
        };
        if coming.keys.iter().any(is_kept) {
            coming.keep();
        }
    }

    /// What one commit has left.
    fn changed_rows(&self, rows: &[RowChange], from: Option<&str>) {
        let mut definitions = Vec::new();
        for row in rows {
            match self.told(&row.key) {
                Some((mapping, Kind::Definition)) => definitions.push((mapping, row)),
                Some((mapping, Kind::Cache)) => self.cache.changed_row(mapping, row, from),
                None => {}
            }
        }
        if !definitions.is_empty() {
            self.reloader.changed_rows(&definitions);
        }
    }

    /// The mapping of a key that is told, if it is configured here.
    fn told(&self, key: &[u8]) -> Option<(MappingId, Kind)> {
        let mapping = self.mappings.keyspace.owner(key)?;
        let Mapping { kind, config, .. } = &self.mappings.list[mapping.index()];
        if is_planted("watch-ignored") && !config.watch.is_empty() {
            return None;
        }
        self.metrics.invalidated("change");
        self.counts[mapping.index()].changed();
        Some((mapping, *kind))
    }

    /// False of a mapping that is not configured here: it is another sidecar's over the same database.
    fn changed_pattern(&self, pattern: &str, why: Cause) -> bool {
        let Some(mapping) = self.mappings.keyspace.find(pattern) else {
            tracing::debug!(%pattern, "a notice names a mapping that is not configured here");
            return false;
        };
        self.changed_whole(mapping, why);
        true
    }

    fn changed_whole(&self, mapping: MappingId, why: Cause) {
        self.metrics.invalidated("mapping");
        self.counts[mapping.index()].changed();
        self.cache.flush(mapping, why);
        self.reloader.request(mapping);
    }

    /// Forgets a key, or every cached key that matches a glob; definitions that match are loaded again. A glob whose
    /// wildcards all stand behind a backslash is that one key.
    /// The number of cached keys that were in memory, of definition mappings that are loaded again, and of what was
    /// forgotten of the near cache.
    pub fn invalidate(&self, pattern: &[u8], reason: &'static str) -> usize {
        let near = locked(&self.near).clone();
        near.map_or(0, |near| near.forget(pattern)) + self.forget_owned(pattern, reason)
    }

    fn forget_owned(&self, pattern: &[u8], reason: &'static str) -> usize {
        self.metrics.invalidated(reason);
        let why = Cause::Command(if reason == "admin" { "POST /invalidate" } else { "HEARTHSIDE INVALIDATE" });
        if let Some(key) = only_text(pattern) {
            let owner = self.mappings.keyspace.owner(&key).map(|mapping| &self.mappings.list[mapping.index()]);
            return owner.map_or(0, |mapping| match mapping.kind {
                Kind::Definition => self.reload(mapping.id),
                Kind::Cache => usize::from(self.cache.invalidate(&key, why)),
            });
        }
        let snapshot = self.definitions.snapshot();
        let definitions = self.mappings.list.iter().filter(|m| m.kind == Kind::Definition);
        let matching = definitions.filter(|m| snapshot.keys(m.id).any(|key| glob_match(pattern, key)));
        matching.map(|mapping| self.reload(mapping.id)).sum::<usize>() + self.cache.invalidate_matching(pattern, &why)
    }

    /// The same here, and in the other sidecars of the store as soon as they hear of it.
    pub fn invalidate_everywhere(&self, pattern: &[u8], reason: &'static str) -> usize {
        if let Ok(pattern) = std::str::from_utf8(pattern) {
            let (store, word) = (self.store.clone(), Word::Invalidate(pattern.to_owned()));
            tokio::spawn(async move {
                if let Err(error) = store.say(&word).await {
                    tracing::info!(%error, "other sidecars of the store are not told what is to be forgotten");
                }
            });
        }
        self.invalidate(pattern, reason)
    }

    fn reload(&self, mapping: MappingId) -> usize {
        self.reloader.request(mapping);
        1
    }

    /// What can be looked into, beside the parts of the process that are not owned keys.
    #[must_use]
    pub fn subject(
        &self,
        about: Arc<About>,
        upstream: Arc<Endpoint>,
        clients: Arc<Registry>,
        metrics: Arc<Metrics>,
    ) -> Subject {
        let Self { mappings, definitions, cache, store, .. } = self;
        let (mappings, definitions, cache, store) =
            (mappings.clone(), definitions.clone(), cache.clone(), store.clone());
        let modes = Arc::default();
        Subject { about, mappings, modes, definitions, cache, store, upstream, near: None, clients, metrics }
    }

    /// The error for a key that could not be loaded.
    #[must_use]
    pub fn load_error(&self, mapping: MappingId, error: &StoreError) -> String {
        self.awaited_error(mapping, error).unwrap_or_else(|| {
            let pattern = self.mappings.list[mapping.index()].pattern.text();
            match error {
                StoreError::Faulty(why) => errors::owned::unfit(pattern, why),
                StoreError::Overloaded(why) => errors::owned::overloaded(pattern, &for_who_asked(why)),
                StoreError::Limited(text) => text.clone(),
                _ => errors::owned::not_read(pattern, &error.in_full()),
            }
        })
    }
}

//! Owned keys: definitions and cached keys as one, for commands, operators and the change feed.

pub(super) mod expire;
pub(super) mod loading;
pub(super) mod split;
pub(super) mod write;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::listing::scans::Scans;
use super::{Flow, Services, wrong_arity};
use crate::cache::{Cache, Entry, LoadResult};
use crate::command::{OwnedRequest, Request, Spec};
use crate::definitions::{Definitions, Reloader, Snapshot};
use crate::keys::glob_match;
use crate::mapping::{Kind, Mappings};
use crate::record::{Answer, Record, View, answer_of};
use crate::resp::{Proto, encode};
use crate::session::Session;
use crate::store::{Away, Change, Store, StoreError};
use crate::telemetry::Metrics;
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, RouteLabel};

/// Everything owned.
#[derive(Debug)]
pub struct Owned {
    /// The mappings.
    pub mappings: Arc<Mappings>,
    /// Preloaded records.
    pub definitions: Arc<Definitions>,
    /// Read-through records.
    pub cache: Arc<Cache>,
    /// Reloads definitions.
    pub reloader: Arc<Reloader>,
    /// SCANs under way.
    pub scans: Scans,
    /// The store behind both.
    pub store: Arc<Store>,
    /// While the store has not been there yet: why.
    pub awaits: Option<Arc<Away>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Owned {
    /// True for a mapping of definitions.
    #[must_use]
    pub fn is_definition(&self, mapping: usize) -> bool {
        self.mappings.list[mapping].kind == Kind::Definition
    }

    /// Applies one notice of the change feed. It has taken effect when this returns.
    pub fn apply(&self, change: Change) {
        match change {
            Change::Alive(as_of) => self.cache.alive(as_of),
            Change::Keys(keys, from) => keys.iter().for_each(|key| self.changed(key, from.as_deref())),
            Change::Mapping(pattern) => match self.mappings.keyspace.find(&pattern) {
                Some(mapping) => self.changed_whole(mapping),
                // A mapping of another sidecar's config on the same database.
                None => tracing::debug!(%pattern, "a notice names a mapping that is not configured here"),
            },
            Change::Everything => {
                self.metrics.invalidated("everything");
                self.cache.flush_all();
                self.reloader.request_all(false);
            }
            Change::Gap(why) => {
                tracing::warn!(%why, "changes may be missed; the cache is emptied when the change feed is back");
                self.metrics.gaps.inc();
                self.cache.lost();
            }
        }
    }

    fn changed(&self, key: &[u8], from: Option<&str>) {
        let Some(mapping) = self.mappings.keyspace.owner(key) else { return };
        self.metrics.invalidated("change");
        if self.is_definition(mapping) {
            self.reloader.request(mapping);
        } else {
            self.cache.changed(key, from);
        }
    }

    fn changed_whole(&self, mapping: usize) {
        self.metrics.invalidated("mapping");
        self.cache.flush(mapping);
        self.reloader.request(mapping);
    }

    /// Forgets a key, or every cached key that matches a glob; definitions that match are loaded anew.
    /// The number of cached keys that were in memory and of definition mappings that are loaded anew.
    pub fn invalidate(&self, pattern: &[u8], reason: &'static str) -> usize {
        self.metrics.invalidated(reason);
        if !pattern.iter().any(|b| b"*?[\\".contains(b)) {
            return match self.mappings.keyspace.owner(pattern) {
                Some(mapping) if self.is_definition(mapping) => self.reload(mapping),
                Some(_) => usize::from(self.cache.invalidate(pattern)),
                None => 0,
            };
        }
        let snapshot = self.definitions.snapshot();
        let definitions = self.mappings.list.iter().filter(|m| m.kind == Kind::Definition);
        let matching = definitions.filter(|m| snapshot.keys(m.id).any(|key| glob_match(pattern, key)));
        matching.map(|mapping| self.reload(mapping.id)).sum::<usize>() + self.cache.invalidate_matching(pattern)
    }

    fn reload(&self, mapping: usize) -> usize {
        self.reloader.request(mapping);
        1
    }

    /// The error for a key that could not be loaded.
    #[must_use]
    pub fn load_error(&self, mapping: usize, error: &StoreError) -> String {
        self.awaited_error(mapping, error).unwrap_or_else(|| {
            let pattern = self.mappings.list[mapping].pattern.text();
            format!("ERR hearthside: the mapping '{pattern}' could not be read: {error}")
        })
    }
}

/// True for commands that read or renew the value, as opposed to asking about the key's life.
fn is_use(spec: &Spec) -> bool {
    !matches!(spec.name.as_str(), "type" | "ttl" | "pttl" | "expiretime" | "pexpiretime" | "exists")
}

/// Answers a command on one owned key: mapping, the key's place, and the command.
pub(super) fn answer(
    services: &Services,
    session: &mut Session,
    request: &Request<'_>,
    (mapping, at, spec): (usize, usize, &'static Spec),
    out: &mut BytesMut,
) -> Flow {
    let Some(answer) = answer_of(spec) else {
        let lifetime = expire::answer(services, session, request, (mapping, at, spec), out);
        return lifetime.unwrap_or_else(|| write::answer(services, session, request, (mapping, at, spec), out));
    };
    let owned = &services.owned;
    let (key, proto) = (request.arg(at), session.proto());
    if !spec.accepts(request.len()) {
        wrong_arity(spec, out);
        return Flow::Answered;
    }
    if owned.is_definition(mapping) {
        let snapshot = owned.definitions.snapshot();
        let view = View { record: snapshot.get(mapping, key), expires_in: None };
        session.tally.add(RouteLabel::Definition, outcome(view.record.is_some()), 1);
        answer_from(answer, request, &view, proto, out);
        return Flow::Answered;
    }
    let now = session.now;
    let hit = owned.cache.hit(&mut services.front.borrow_mut(), mapping, key, now, |entry| {
        if is_use(spec) {
            owned.cache.renew(key, entry, now);
        }
        answer_from(answer, request, &entry.view(now), proto, out);
        entry.record.is_some()
    });
    if let Some(is_there) = hit {
        session.tally.add(RouteLabel::Cache, outcome(is_there), 1);
        return Flow::Answered;
    }
    session.tally.add(RouteLabel::Cache, Outcome::Miss, 1);
    let loading = owned.cache.load(mapping, &Bytes::copy_from_slice(key));
    let (owned, request) = (owned.clone(), OwnedRequest::copy(request));
    Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match loading.await {
            Ok(entry) => {
                let (request, now) = (request.view(), now_ms());
                if is_use(spec) {
                    owned.cache.renew(request.arg(at), &entry, now);
                }
                answer_from(answer, &request, &entry.view(now), proto, &mut out);
            }
            Err(error) => encode::error(&mut out, &owned.load_error(mapping, &error)),
        }
        Ok(out.into())
    }))
}

const fn outcome(is_there: bool) -> Outcome {
    if is_there { Outcome::Hit } else { Outcome::Absent }
}

/// Appends the answer, or the error in its place.
pub fn answer_from(answer: Answer, request: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) {
    let begin = out.len();
    if let Err(error) = answer(request, view, proto, out) {
        out.truncate(begin);
        encode::error(out, &error.to_string());
    }
}

/// One owned key of several: at hand, or on its way.
pub(super) enum Found {
    /// In memory.
    Now(Option<Arc<Entry>>, Option<Bytes>),
    /// Being loaded.
    Loading(std::pin::Pin<Box<dyn Future<Output = LoadResult>>>),
}

impl Owned {
    /// Looks one key up for a command over several: whether it is there, and its string if it has
    /// one and `values` are asked for.
    /// All of a command's keys are looked up in one `snapshot` of the definitions (C6).
    pub(super) fn find(
        &self,
        snapshot: &Snapshot,
        session: &mut Session,
        (mapping, key): (usize, &[u8]),
        values: bool,
    ) -> Found {
        if self.is_definition(mapping) {
            let record = snapshot.get(mapping, key);
            session.tally.add(RouteLabel::Definition, outcome(record.is_some()), 1);
            return Found::Now(None, record.map(|record| string_of(record, values)));
        }
        match self.cache.get(mapping, key, session.now) {
            Some(entry) => {
                session.tally.add(RouteLabel::Cache, outcome(entry.record.is_some()), 1);
                let encoded = entry.record.as_ref().map(|record| string_of(record, values));
                Found::Now(Some(entry), encoded)
            }
            None => {
                session.tally.add(RouteLabel::Cache, Outcome::Miss, 1);
                Found::Loading(Box::pin(self.cache.load(mapping, &Bytes::copy_from_slice(key))))
            }
        }
    }
}

/// The encoded string of a record if `values` are asked for; empty for other shapes.
pub(super) fn string_of(record: &Record, values: bool) -> Bytes {
    Bytes::copy_from_slice(record.encoded_string().filter(|_| values).unwrap_or_default())
}

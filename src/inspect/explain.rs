//! One key: who owns it, what is known of it, and why it was last forgotten. Never what it holds.

use bytes::Bytes;
use serde::Serialize;

use super::key_name;
use super::subject::Subject;
use super::times;
use crate::cache::{Held, KeyLook, Served, Trace};
use crate::keys::Pattern;
use crate::mapping::{Kind, Mapping, Setting};
use crate::quota::Asker;
use crate::store::CurrentPlan;
use crate::telemetry::clock::Tick;

/// What EXPLAIN tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct Explanation {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_encoded: Option<String>,
    pub owner: &'static str,
    pub mapping: Option<String>,
    pub why: String,
    pub mode: Option<&'static str>,
    pub percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<String>,
    pub state: &'static str,
    pub is_told: Option<bool>,
    pub is_there: Option<bool>,
    #[serde(rename = "type")]
    pub shape: Option<&'static str>,
    pub loaded_at: Option<String>,
    pub age_ms: Option<u64>,
    pub ttl_ms: Option<i64>,
    pub bytes: Option<usize>,
    pub epoch: Option<u64>,
    pub mapping_epoch: Option<u64>,
    pub is_under_way: bool,
    pub writes_wait: bool,
    pub forgotten: Option<Forgotten>,
    pub statement: Option<String>,
    pub parameters: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Vec<String>>,
}

/// Why a key was last forgotten, or replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "docs/OPERATIONS.md explains the names")]
pub struct Forgotten {
    pub cause: &'static str,
    pub why: String,
    /// `key`, or `mapping` where everything of it was forgotten.
    pub scope: &'static str,
    pub at: String,
    pub ago_ms: u64,
}

impl Forgotten {
    fn of(trace: &Trace, mapping: &Mapping) -> Self {
        let ago_ms = Tick::now().since(trace.at);
        let mut why = trace.cause.words();
        let tables: Vec<String> = mapping.watched().into_iter().map(|(table, _)| table).collect();
        // A trigger's notice names the keys, and not its table.
        if why.ends_with("its rows") && !tables.is_empty() {
            why = format!("{why} in table {}", tables.join(" or "));
        }
        let scope = if trace.is_of_mapping { "mapping" } else { "key" };
        Self { cause: trace.cause.name(), why, scope, at: times::shown(trace.moment), ago_ms }
    }
}

const fn state(held: Option<&Held>) -> &'static str {
    match held {
        None => "not in memory",
        Some(held) => match held.served {
            Served::Yes => "in memory",
            Served::Expired => "in memory, and its TTL is over",
            Served::Outdated => "in memory, and forgotten with its mapping",
            Served::Doubtful => "in memory, and not served: changes may be missed, and it is older than max_staleness",
        },
    }
}

/// Why a key that a mapping's pattern matches is the upstream's.
fn passes(setting: Setting) -> String {
    match setting.mode.owns() {
        true => format!("the mode holds for {} of a hundred keys, of which this is none", setting.percent),
        false => format!("the mode of the mapping is '{}'", setting.mode.name()),
    }
}

impl Subject {
    /// What is known of a key.
    #[must_use]
    pub fn explain(&self, key: &[u8]) -> Explanation {
        let (text, key_encoded) = key_name::told(key);
        let Some(mapping) = self.owner(key) else {
            let why = self.why_upstream(key);
            return Explanation {
                key: text,
                key_encoded,
                owner: "upstream",
                why,
                near: self.near.as_ref().and_then(|near| near.block(key)).map(str::to_owned),
                state: "not known here",
                ..Default::default()
            };
        };
        let (name, setting) = (mapping.pattern.text(), self.modes.setting(mapping.id));
        let owned = Explanation {
            key: text,
            key_encoded,
            mapping: Some(name.to_owned()),
            why: format!("the pattern '{name}' matches"),
            mode: Some(setting.mode.name()),
            percent: Some(setting.percent),
            ..Default::default()
        };
        if !self.modes.owns(mapping.id, key) {
            let why = format!("the pattern '{name}' matches, and {}", passes(setting));
            return Explanation { owner: "upstream", why, state: "not known here", ..owned };
        }
        match mapping.kind {
            Kind::Definition => self.definition(mapping, key, owned),
            Kind::Cache => self.cached(mapping, key, owned),
        }
    }

    /// True when the store and the upstream are asked who has the key.
    #[must_use]
    pub fn asks_both_sides(&self, key: &[u8]) -> bool {
        self.owner(key).is_some_and(|mapping| self.modes.falls_back(mapping.id, key))
    }

    /// The same with the side that answers for it, of a mapping in the mode `fallback`.
    pub async fn explain_sides(&self, key: &[u8]) -> Explanation {
        let explanation = self.explain(key);
        match self.owner(key).filter(|mapping| self.modes.falls_back(mapping.id, key)) {
            None => explanation,
            Some(mapping) => Explanation { answered_by: Some(self.side(mapping, key).await), ..explanation },
        }
    }

    async fn side(&self, mapping: &Mapping, key: &[u8]) -> String {
        let is_in_store = match mapping.kind {
            Kind::Definition => Ok(self.definitions.snapshot().get(mapping.id, key).is_some()),
            Kind::Cache => {
                let mut asker = Asker::new(None, Tick::now());
                let loaded = self.cache.load(mapping.id, &Bytes::copy_from_slice(key), &mut asker).await;
                loaded.map(|entry| entry.record.is_some()).map_err(|error| error.to_string())
            }
        };
        match is_in_store {
            Err(why) => format!("not known, the store does not say whether it has the key: {why}"),
            Ok(true) => "store".to_owned(),
            Ok(false) => match self.upstream.has_key(key).await {
                Ok(true) => "upstream".to_owned(),
                Ok(false) => "neither".to_owned(),
                Err(why) => format!("not known, the upstream does not say whether it has the key: {why}"),
            },
        }
    }

    /// The same with the store's own plan for loading it.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn explain_with_plan(&self, key: &[u8]) -> Result<Explanation, String> {
        let plan = match self.owner(key).filter(|mapping| mapping.kind == Kind::Cache) {
            None => None,
            Some(mapping) => self.cache.plan_of(mapping.id).map(CurrentPlan::plan),
        };
        let lines = match plan {
            None => return Err("only a cached key is loaded by a statement of its own".to_owned()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(plan)) => self.cache.explain(&plan, key).await.map_err(|error| error.to_string())?,
        };
        Ok(Explanation { plan: Some(lines), ..self.explain_sides(key).await })
    }

    fn owner(&self, key: &[u8]) -> Option<&Mapping> {
        self.mappings.keyspace.owner(key).map(|id| &self.mappings.list[id.index()])
    }

    /// Why no mapping has the key.
    fn why_upstream(&self, key: &[u8]) -> String {
        let is_near = |mapping: &&Mapping| {
            let mut text = mapping.pattern.text().to_owned();
            for kind in [":int}", ":uuid}", ":date}"] {
                text = text.replace(kind, "}");
            }
            let loose = Pattern::parse(&text);
            loose.is_ok_and(|pattern| pattern.matches(key))
        };
        match self.mappings.list.iter().find(is_near) {
            Some(mapping) => format!(
                "the pattern '{}' would match if every part that it wants as a whole number, a UUID or a date were \
                 one, in the one spelling that it takes: 7, a UUID in small letters with its hyphens, 2026-11-28",
                mapping.pattern.text()
            ),
            None => "no mapping's pattern matches".to_owned(),
        }
    }

    fn definition(&self, mapping: &Mapping, key: &[u8], owned: Explanation) -> Explanation {
        let snapshot = self.definitions.snapshot();
        let (record, unloaded) = (snapshot.get(mapping.id, key), self.definitions.unloaded(mapping.id));
        Explanation {
            owner: "definition",
            state: if unloaded.is_some() { "not loaded" } else { "in memory" },
            is_there: unloaded.is_none().then_some(record.is_some()),
            shape: record.map(|_| mapping.config.shape.name()),
            bytes: record.map(|record| key.len() + record.weight()),
            ..owned
        }
    }

    fn cached(&self, mapping: &Mapping, key: &[u8], owned: Explanation) -> Explanation {
        let Some(look) = self.cache.look(mapping.id, key) else {
            return Explanation { owner: "cached", state: "waits for the store", ..owned };
        };
        let plan = self.cache.plan_of(mapping.id).and_then(|plan| plan.plan().ok());
        let bound = plan.as_ref().and_then(|plan| plan.statement(key));
        let (statement, parameters) = bound.map(|(sql, values)| (sql.to_owned(), values)).unzip();
        let KeyLook { held, is_under_way, waits, epoch, forgotten } = look;
        let (entry, now) = (held.as_ref().map(|held| &held.entry), Tick::now());
        Explanation {
            owner: "cached",
            state: state(held.as_ref()),
            is_told: self.cache.plan_of(mapping.id).map(CurrentPlan::is_watched),
            is_there: entry.map(|entry| entry.record.is_some()),
            shape: entry.and_then(|entry| entry.record.as_ref()).map(|_| mapping.config.shape.name()),
            loaded_at: held.as_ref().map(|held| times::of_tick(held.loaded_at)),
            age_ms: held.as_ref().map(|held| now.since(held.loaded_at)),
            ttl_ms: entry.and_then(|entry| entry.left(now)).map(|left| left.as_millis() as i64),
            bytes: held.as_ref().map(|held| held.bytes),
            epoch: held.as_ref().map(|held| held.epoch),
            mapping_epoch: Some(epoch),
            is_under_way,
            writes_wait: waits,
            forgotten: forgotten.map(|trace| Forgotten::of(&trace, mapping)),
            statement,
            parameters: parameters.unwrap_or_default(),
            ..owned
        }
    }
}

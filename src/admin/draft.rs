//! A mapping that is being thought of: what its block of the configuration is, whether it fits the store, what its
//! first keys would hold, and the SQL that it needs. Nothing is changed. It shows values, and is for a token alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes as Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Admin, api, compare, starting};
use crate::config::{self, Fault};
use crate::inspect::Subject;
use crate::keys::Pattern;
use crate::mapping::{Mapping, Mappings};
use crate::store::{Plan, Store, StoreError, Urgency};
use crate::telemetry::joined;

/// So many examples are shown, and so many fields of each.
const EXAMPLES: usize = 3;
const FIELDS: usize = 20;

/// One draft at a time reads from the store, which has more to do. Whoever leaves while waiting waits no more.
static TURN: Semaphore = Semaphore::const_new(1);

/// What is wished for.
#[derive(Debug, Deserialize)]
struct Wish {
    /// True: every key is loaded at start.
    #[serde(default)]
    is_definition: bool,
    /// The role that is to be given rights; empty: none.
    #[serde(default)]
    role: String,
    #[serde(flatten)]
    block: Block,
}

/// The block of the configuration.
#[derive(Debug, Serialize, Deserialize)]
struct Block {
    key: String,
    #[serde(rename = "type")]
    shape: String,
    table: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    ttl: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    write: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    key_columns: BTreeMap<String, String>,
    /// Its other keys, as they are: what is none of a block's is a fault.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// What becomes of it.
#[derive(Debug, Default, Serialize)]
struct Drafted {
    toml: String,
    faults: Vec<String>,
    examples: Vec<Example>,
    triggers: String,
    grants: String,
}

#[derive(Debug, Serialize)]
struct Example {
    key: String,
    parts: Vec<(String, String)>,
}

/// `GET /api/tables`
pub(super) async fn tables(State(admin): State<Admin>) -> Response {
    let Some(subject) = admin.readiness.subject() else { return starting() };
    match subject.store.tables().await {
        Ok(tables) => api::json(&tables),
        Err(error) => refused(&error),
    }
}

fn refused(error: &StoreError) -> Response {
    (StatusCode::CONFLICT, format!("the store cannot be asked: {error}\n")).into_response()
}

/// `POST /api/draft`, with what is wished for as JSON.
pub(super) async fn draft(State(admin): State<Admin>, body: Body) -> Response {
    let Some(subject) = admin.readiness.subject() else { return starting() };
    let wish: Wish = match serde_json::from_slice(&body) {
        Ok(wish) => wish,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let turn = TURN.acquire().await;
    // What the store has begun it ends, also for who has left: until then it is nobody else's turn.
    let drafting = tokio::spawn(async move {
        let _turn = turn;
        drafted(&subject, wish).await
    });
    match joined(drafting.await) {
        Some(Ok(drafted)) => api::json(&drafted),
        Some(Err(error)) => refused(&error),
        None => starting(),
    }
}

/// A column named in `key_columns` only where it differs from its placeholder is what one would write.
fn tidied(mut block: Block, is_definition: bool) -> Block {
    let names: Vec<String> = Pattern::parse(&block.key)
        .map(|pattern| pattern.placeholders().map(|(name, _)| name.to_owned()).collect())
        .unwrap_or_default();
    block.key_columns.retain(|name, column| name != column && names.contains(name));
    block.others.retain(|_, value| !value.is_null());
    if block.write == "reject" || is_definition {
        block.write.clear();
    }
    if is_definition {
        block.ttl.clear();
    }
    block
}

async fn drafted(subject: &Subject, wish: Wish) -> Result<Drafted, StoreError> {
    let Wish { is_definition, role, block } = wish;
    let block = tidied(block, is_definition);
    let written = |kind: &str| toml::to_string(&BTreeMap::from([(kind, [&block])])).unwrap_or_default();
    let toml = written(if is_definition { "definitions" } else { "caches" });
    let (mapping, faults) = compiled(subject, &toml);
    let Some(mapping) = mapping.filter(|_| faults.is_empty()) else {
        return Ok(Drafted { toml, faults, ..Drafted::default() });
    };
    match subject.store.draft(&mapping).await {
        Ok(plan) if plan.unsavable().is_empty() => {
            let (cached, _) = compiled(subject, &written("caches"));
            let examples = examples(subject, cached.as_ref().unwrap_or(&mapping)).await?;
            let (triggers, grants) = sql(subject, &mapping, &role).await?;
            Ok(Drafted { toml, faults, examples, triggers, grants })
        }
        Ok(plan) => Ok(Drafted { toml, faults: listed(plan.unsavable()), ..Drafted::default() }),
        Err(StoreError::Faults(list)) => Ok(Drafted { toml, faults: listed(&list), ..Drafted::default() }),
        Err(error) => Err(error),
    }
}

fn listed(faults: &[(&'static str, String)]) -> Vec<String> {
    faults.iter().map(|(setting, text)| format!("{setting}: {text}")).collect()
}

/// The mapping of the text, and what is wrong with it, also beside the mappings in force.
fn compiled(subject: &Subject, toml: &str) -> (Option<Mapping>, Vec<String>) {
    let mut loaded = config::read("", toml, std::iter::empty());
    let mut mappings = Mappings::compile(&loaded.config, &mut loaded.faults);
    let words = |Fault { path, message }: &Fault| format!("{}: {message}", path.rsplit('.').next().unwrap_or(path));
    let mut faults: Vec<String> = loaded.faults.list().iter().map(words).collect();
    let mapping = mappings.list.pop();
    if let Some(mapping) = &mapping {
        let is_met = |other: &&Mapping| other.pattern.conflicts(&mapping.pattern);
        let met = subject.mappings.list.iter().find(is_met);
        faults.extend(met.map(|other| {
            format!("key: '{}' can match the same key as '{}'", mapping.pattern.text(), other.pattern.text())
        }));
    }
    (mapping, faults)
}

/// What the first keys of the table would hold, read one by one as cached keys are.
async fn examples(subject: &Subject, cached: &Mapping) -> Result<Vec<Example>, StoreError> {
    let thought = Thought { store: &subject.store, plan: Arc::new(subject.store.draft(cached).await?) };
    loaded(&subject.store, &thought.plan).await
}

/// A plan that the store forgets again, whatever becomes of it.
struct Thought<'s> {
    store: &'s Store,
    plan: Arc<Plan>,
}

impl Drop for Thought<'_> {
    fn drop(&mut self) {
        self.store.forget_draft(&self.plan);
    }
}

async fn loaded(store: &Arc<Store>, plan: &Arc<Plan>) -> Result<Vec<Example>, StoreError> {
    let mut examples = Vec::new();
    for listed in store.page(plan, &[], EXAMPLES).await? {
        let Some(key) = plan.mapping().pattern.render(&listed.texts).map(Bytes::from) else { continue };
        let record = store.load(plan, &key, &Urgency::urgent()).await?;
        let parts = record.iter().flat_map(|record| {
            record.parts().take(FIELDS).map(|(name, value)| (name, compare::text(value))).collect::<Vec<_>>()
        });
        examples.push(Example { key: String::from_utf8_lossy(&key).into_owned(), parts: parts.collect() });
    }
    Ok(examples)
}

/// The SQL of the triggers of the tables that it watches, which serve the mappings in force too, and of the rights that
/// it needs. SQLite needs neither.
async fn sql(subject: &Subject, mapping: &Mapping, role: &str) -> Result<(String, String), StoreError> {
    if subject.store.name() == "SQLite" {
        return Ok(Default::default());
    }
    let tables: Vec<String> = mapping.watched().into_iter().map(|(table, _)| table).collect();
    let is_near = |other: &&Mapping| other.watched().iter().any(|(table, _)| tables.contains(table));
    let mut concerned: Vec<Mapping> = subject.mappings.list.iter().filter(is_near).cloned().collect();
    concerned.push(mapping.clone());
    let triggers = subject.store.trigger_script(&concerned).await?;
    let grants = match role {
        "" => String::new(),
        role => subject.store.grants(std::slice::from_ref(mapping), role).await?,
    };
    Ok((triggers, grants))
}

//! Compares what is in memory of a key with what the store has. It shows values, and is for a token alone.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Admin, Which, api, starting};
use crate::cache::Both;
use crate::record::Record;

/// So many differences are shown.
const MOST: usize = 50;

/// A longer value is cut.
const LONGEST: usize = 300;

#[derive(Serialize)]
struct Comparison {
    in_memory: bool,
    is_there_in_memory: bool,
    is_there_in_store: bool,
    differences: Vec<Differing>,
    more: usize,
}

#[derive(Serialize)]
struct Differing {
    name: String,
    memory: Option<String>,
    store: Option<String>,
}

/// A value as it is shown.
pub(super) fn text(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], value.len()),
        None => text.into_owned(),
    }
}

impl Comparison {
    fn of(both: &Both) -> Self {
        let memory = both.memory.as_ref().and_then(|entry| entry.record.as_ref());
        let all = match &both.memory {
            Some(_) => Record::differences(memory, both.store.as_ref()),
            None => Vec::new(),
        };
        let more = all.len().saturating_sub(MOST);
        let differing = all.into_iter().take(MOST).map(|it| Differing {
            name: it.name,
            memory: it.first.map(text),
            store: it.second.map(text),
        });
        Self {
            in_memory: both.memory.is_some(),
            is_there_in_memory: memory.is_some(),
            is_there_in_store: both.store.is_some(),
            differences: differing.collect(),
            more,
        }
    }
}

/// `POST /api/compare?key=<key>`
pub(super) async fn compare(State(admin): State<Admin>, which: Which) -> Response {
    let Some(subject) = admin.readiness.subject() else { return starting() };
    let key = which.key;
    let both = match subject.mappings.keyspace.owner(&key) {
        Some(id) => subject.cache.both(id, &key).await,
        None => None,
    };
    match both {
        Some(Ok(both)) => api::json(&Comparison::of(&both)),
        Some(Err(error)) => (StatusCode::CONFLICT, format!("the store could not be read: {error}\n")).into_response(),
        None => (StatusCode::CONFLICT, "only a cached key is compared with the store\n").into_response(),
    }
}

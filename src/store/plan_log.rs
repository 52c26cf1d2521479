//! What operators are told of a mapping's plan: that it does not fit, fits again, or has no way to be saved, written or
//! told of changes.

use super::current_plan::{State, texts};
use super::{FeedKind, Plan};
use crate::mapping::{Kind, Mapping};

/// Logs what has become of a mapping's plan; `before` is what it was.
pub(super) fn say_state(mapping: &Mapping, before: Option<&State>, now: &State) {
    let name = mapping.pattern.text();
    match (before, now) {
        (_, State::Faulty(faults)) => {
            let meanwhile = match mapping.kind {
                Kind::Cache => "its keys are answered with an error",
                Kind::Definition => "its last good version is served, if there is one",
            };
            tracing::error!(
                mapping = name,
                faults = texts(faults),
                "a mapping does not fit the store's schema: {meanwhile}; everything else is served. It is tried again \
                 every few seconds"
            );
        }
        (_, State::Unplanned(why)) => tracing::warn!(
            mapping = name,
            why,
            "a mapping's tables could not be looked at (is one locked?): its keys are answered with an error; \
             everything else is served. It is tried again every few seconds"
        ),
        (Some(State::Unplanned(_)), State::Ready(_)) => {
            tracing::info!(mapping = name, "the mapping's tables were looked at, and it is served");
        }
        (Some(State::Faulty(_)), State::Ready(_)) => {
            tracing::info!(mapping = name, "the mapping fits the store's schema again");
        }
        (Some(State::Ready(_)), State::Ready(_)) => {
            tracing::info!(mapping = name, "the schema has changed: the mapping's statements were made again");
        }
        (None, State::Ready(_)) => {}
    }
    let State::Ready(plan) = now else { return };
    say_unsavable(name, before, plan);
    say_unwritable(name, before, plan);
    let known = if let Some(State::Ready(before)) = before { before.doubts() } else { &[] };
    for (key, doubt) in plan.doubts().iter().filter(|doubt| !known.contains(doubt)) {
        tracing::warn!(mapping = name, key, "{doubt}");
    }
}

/// Logs whether deferred writes are taken; `before` is what the mapping's plan was.
fn say_unsavable(name: &str, before: Option<&State>, plan: &Plan) {
    let known = if let Some(State::Ready(before)) = before { before.unsavable() } else { &[] };
    match (known, plan.unsavable()) {
        ([_, ..], []) => tracing::info!(mapping = name, "deferred writes are taken again"),
        (known, now @ [_, ..]) if known != now => {
            tracing::error!(
                mapping = name,
                why = texts(now),
                "deferred writes of a mapping are refused: the store could not save them. Everything else is served. \
                 It is looked at again every few seconds"
            );
        }
        _ => {}
    }
}

/// Logs whether the mapping may be written; `before` is what its plan was.
fn say_unwritable(name: &str, before: Option<&State>, plan: &Plan) {
    let known = if let Some(State::Ready(before)) = before { before.unwritable() } else { &[] };
    match (known, plan.unwritable()) {
        ([_, ..], []) => tracing::info!(mapping = name, "the mapping may be written again"),
        (known, now @ [_, ..]) if known != now => {
            tracing::error!(
                mapping = name,
                why = texts(now),
                "a mapping may not be written: the role of store.url lacks a right. Writes are answered with the \
                 store's error, deferred ones wait, and its keys are read. It is looked at again every few seconds"
            );
        }
        _ => {}
    }
}

/// Logs whether the mapping's changes are reported now. Without the triggers none of its changes would be seen: it is
/// served, but a cached key of it for no longer than `cache.max_staleness` (hazard 7).
pub(super) fn say_untold(mapping: &Mapping, feed: FeedKind, was_watched: bool, missing: &[String]) {
    let name = mapping.pattern.text();
    let noticed = match mapping.kind {
        Kind::Cache => "after cache.max_staleness",
        Kind::Definition => "at a reload (SIGHUP, POST /reload)",
    };
    let lacks = missing.join("; ");
    match (feed, was_watched, missing) {
        (_, true, []) | (_, false, [_, ..]) => {}
        (FeedKind::Notify | FeedKind::Outbox, false, []) => {
            tracing::info!(mapping = name, "the change triggers of the mapping are all there");
        }
        (FeedKind::Replication, false, []) => tracing::info!(mapping = name, "every change of the mapping is told"),
        (FeedKind::Replication, true, _) => tracing::error!(
            mapping = name,
            missing = lacks,
            "not every change of this mapping is told: it is noticed only {noticed}; \
             `hearthside check --connect` says what to do"
        ),
        (FeedKind::Notify | FeedKind::Outbox, true, _) => {
            tracing::error!(
                mapping = name,
                missing = lacks,
                "change triggers are missing: changes of this mapping are noticed only {noticed}; \
                 `hearthside check --connect` says what to do"
            );
        }
    }
}

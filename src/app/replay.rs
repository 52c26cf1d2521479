//! What the journal held when it was opened: the store says what of it has been applied, and the rest waits again.

use std::time::Duration;

use super::check::Failure;
use crate::dispatch::Owned;
use crate::journal::{Entry, Journal, Waiting};
use crate::store::{ALL, Away, Raised, StoreError};
use crate::telemetry::planted::is_planted;

/// What was acknowledged before a crash lies over every record before a client is served from it (C5). `away` is told
/// what is waited for, for clients and probes.
pub(super) async fn replay(
    journal: &Journal,
    waiting: Waiting,
    owned: &Owned,
    away: Option<&Away>,
) -> Result<(), Failure> {
    let failed = |error: String| Failure::Start(format!("the journal cannot be replayed: {error}"));
    let Waiting { mut entries, taken, incarnation, last, columns: _ } = waiting;
    let mut batches: Vec<u64> = taken.iter().map(|(batch, _)| *batch).collect();
    // Its values may all have been replaced since, and its statement still be on its way.
    if last > 0 && !batches.contains(&last) {
        batches.push(last);
    }
    let Raised { applied, was_noted } = match incarnation.is_empty() {
        true => Raised { applied: 0, was_noted: true },
        false => fence(owned, (&incarnation, &batches), away).await.map_err(|error| failed(error.to_string()))?,
    };
    if !was_noted && applied == 0 && !taken.is_empty() {
        tracing::warn!(
            "the store has no note of this journal (hearthside.journals): it is not known whether the last batch had \
             been applied; it is saved again"
        );
    }
    if applied > last || taken.iter().any(|(batch, _)| *batch < applied) {
        tracing::warn!(
            "the store has applied later deferred writes of this journal: its file has gone back in time (a copy \
             that was put back?); what waited in it then is saved again"
        );
    }
    for (batch, taken) in taken {
        if batch == applied && !is_planted("double-replay") {
            journal.applied(batch).await.map_err(|error| failed(error.to_string()))?;
            journal.let_go(taken.iter());
        } else {
            journal.give_back(batch).await.map_err(|error| failed(error.to_string()))?;
            entries.extend(taken);
        }
    }
    lay(journal, entries, owned);
    Ok(())
}

/// Lays what waits over every record; what belongs to no mapping of today stays in the journal.
fn lay(journal: &Journal, entries: Vec<Entry>, owned: &Owned) {
    if !entries.is_empty() {
        tracing::info!(fields = entries.len(), "deferred writes of before are replayed from the journal");
    }
    let list = &owned.mappings.list;
    let of = |entry: &Entry| owned.mappings.keyspace.find(&entry.mapping).filter(|id| list[*id].config.writes_table());
    let (entries, lost): (Vec<_>, Vec<_>) =
        entries.into_iter().map(|entry| (of(&entry), entry)).partition(|(mapping, _)| mapping.is_some());
    for (_, entry) in &lost {
        tracing::error!(
            mapping = entry.mapping,
            "a deferred write waits for a mapping that is not configured any more (or writes no table); it stays in the journal"
        );
    }
    journal.let_go(entries.iter().map(|(_, entry)| entry));
    for (mapping, entry) in entries {
        if let Some(mapping) = mapping {
            owned.cache.replay(mapping, vec![entry]);
        }
    }
    owned.cache.count_waiting();
}

/// The last batch that was applied of the incarnation before; from then on nothing of it is, also not what the network
/// still delivers. Asks until the store answers: without that nobody knows which batches were applied.
async fn fence(
    owned: &Owned,
    (incarnation, batches): (&str, &[u64]),
    away: Option<&Away>,
) -> Result<Raised, StoreError> {
    loop {
        // A connection may be open and silent for ever.
        let told = tokio::time::timeout(owned.cache.deadline(), owned.store.fence(incarnation, ALL, batches)).await;
        match told.unwrap_or_else(|_| Err(StoreError::Unavailable("it took too long".into()))) {
            Err(error) if error.is_final() => {
                tracing::warn!(%error, "waiting for the store, which knows what of the journal it has applied");
                if let Some(away) = away {
                    away.say(format!(
                        "it is there, and does not say what of the journal it has applied ({error}); is \
                         hearthside.journals locked by another session?"
                    ));
                }
            }
            told => return told,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

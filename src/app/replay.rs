//! Replays the journal at start: the store says which of its writes have been applied, and the others wait again to be
//! saved.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::check::Failure;
use crate::dispatch::Owned;
use crate::journal::{Entry, Journal, Waiting};
use crate::store::{ALL, Fence, Raised, StoreError, Unavailable};
use crate::telemetry::metrics::PanicMetrics;
use crate::telemetry::planted::is_planted;
use crate::telemetry::{LastingPart, lasting};

/// How long the store is left alone before it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What was acknowledged before a crash lies over every record before a client is served from it (C5). `away` says to
/// clients and probes what is waited for.
pub(super) async fn replay(
    journal: &Arc<Journal>,
    waiting: Waiting,
    owned: &Arc<Owned>,
    away: Option<&Unavailable>,
    panics: &Arc<PanicMetrics>,
) -> Result<(), Failure> {
    if waiting.incarnation.is_empty() {
        lay(journal, waiting.entries, owned);
        return Ok(());
    }
    let failed = |error: StoreError| {
        let hint = if matches!(error, StoreError::Schema(_)) { "; run `hearthside migrate`" } else { "" };
        Failure::Start(format!("the journal cannot be replayed: {error}{hint}"))
    };
    // If this process ends before the answer is noted, the next opening knows by this that it was this one that asked.
    journal.announce().await.map_err(|error| failed(error.into()))?;
    match raise(journal, &waiting, owned, away).await {
        Err(StoreError::ReadOnly(_)) => postpone(journal, waiting, owned, panics),
        raised => {
            let entries = take_over(journal, waiting, owned, &raised.map_err(failed)?).await.map_err(failed)?;
            lay(journal, entries, owned);
        }
    }
    Ok(())
}

/// A store that takes reads only cannot note who takes over. What was left lies over every record all the same, that of
/// batches too whose end is not known; it is taken over when the store takes writes, and until then nothing is flushed.
fn postpone(journal: &Arc<Journal>, waiting: Waiting, owned: &Arc<Owned>, panics: &Arc<PanicMetrics>) {
    let taken = waiting.taken.iter().flat_map(|(_, entries)| entries);
    let mut entries: Vec<Entry> = waiting.entries.iter().chain(taken).cloned().collect();
    entries.sort_by_key(|entry| entry.seq);
    lay(journal, entries, owned);
    let (journal, owned, panics) = (journal.clone(), owned.clone(), panics.clone());
    let later = async move || take_over_later(&journal, &waiting, &owned).await;
    tokio::spawn(lasting(LastingPart::TakingOver, panics, later));
}

async fn take_over_later(journal: &Journal, waiting: &Waiting, owned: &Owned) {
    let attempt = async || {
        let raised = ask(journal, waiting, owned).await?;
        take_over(journal, waiting.clone(), owned, &raised).await
    };
    loop {
        tokio::time::sleep(PAUSE).await;
        if !owned.store.standing().takes_writes() {
            continue;
        }
        match attempt().await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "what the journal held at the start cannot be taken over yet"),
        }
    }
}

/// Takes over what the opening before left, by what the store says of it: what it has applied is forgotten. If another
/// process has taken it over already, or went on with it, nothing of it is left to be saved. What waits then.
async fn take_over(
    journal: &Journal,
    waiting: Waiting,
    owned: &Owned,
    raised: &Raised,
) -> Result<Vec<Entry>, StoreError> {
    let Waiting { mut entries, taken, last, .. } = waiting;
    let heir = journal.incarnation();
    let is_taken_over = raised.successor.as_deref().is_some_and(|successor| successor != &*heir);
    // Batches are taken in the order of their numbers, so that the file knows of every one up to the last.
    let went_on = raised.applied.iter().any(|applied| *applied > last);
    if !raised.was_noted && raised.applied.is_empty() && !taken.is_empty() {
        tracing::warn!(
            "the store has no note of this journal (hearthside.journals): it is not known whether the last batch had \
             been applied; it is saved again"
        );
    }
    entries.extend(settle(journal, taken, owned, &raised.applied).await?);
    if (is_taken_over || went_on) && !is_planted("second-heir") {
        put_aside(journal, &std::mem::take(&mut entries), owned).await?;
    }
    journal.succeed().await?;
    Ok(entries)
}

/// The batches that the opening before may have sent.
fn batches_before(last: u64, taken: &[(u64, Vec<Entry>)]) -> Vec<u64> {
    let mut batches: Vec<u64> = taken.iter().map(|(batch, _)| *batch).collect();
    // The values of the last one may all have been replaced since, and its statement still be on its way.
    if last > 0 && !batches.contains(&last) {
        batches.push(last);
    }
    batches
}

/// Forgets the batches that the store has applied, and gives back the others, whose entries wait again.
async fn settle(
    journal: &Journal,
    taken: Vec<(u64, Vec<Entry>)>,
    owned: &Owned,
    applied: &[u64],
) -> Result<Vec<Entry>, StoreError> {
    let mut waiting = Vec::new();
    for (batch, taken) in taken {
        if applied.contains(&batch) && !is_planted("double-replay") {
            journal.applied(batch).await?;
            journal.let_go(taken.iter());
            owned.cache.forget_applied(&taken);
        } else {
            journal.give_back(batch).await?;
            waiting.extend(taken);
        }
    }
    Ok(waiting)
}

/// What waits in a copy of a journal was saved by another process, or may have been, and so may newer values: nothing
/// is written over them.
async fn put_aside(journal: &Journal, entries: &[Entry], owned: &Owned) -> Result<(), StoreError> {
    if entries.is_empty() {
        tracing::info!("the journal's file has gone back in time, or a copy of it is in use; nothing waited in it");
        return Ok(());
    }
    let reason = "the journal's file is a copy: somebody else has taken over what waits in it, and may have saved it";
    journal.put_aside(entries, reason).await?;
    journal.let_go(entries.iter());
    owned.cache.give_up(entries);
    let keys: HashSet<&[u8]> = entries.iter().map(|entry| &*entry.key).collect();
    owned.cache.count_put_aside(keys.len());
    tracing::error!(
        writes = entries.len(),
        keys = keys.len(),
        "the journal's file is a copy that was put back, or is in use elsewhere: another start has taken over the \
         deferred writes that wait in it, and has saved them, or may have. They are put aside, so that no newer value \
         is overwritten; `hearthside journal` shows them: compare them with the store, and write what is missing"
    );
    Ok(())
}

/// Lays what waits over every record; what belongs to no mapping of today stays in the journal, for a reload that
/// configures one.
fn lay(journal: &Journal, entries: Vec<Entry>, owned: &Owned) {
    if !entries.is_empty() {
        tracing::info!(fields = entries.len(), "deferred writes of before are replayed from the journal");
    }
    let list = &owned.mappings.list;
    let of = |entry: &Entry| {
        owned.mappings.keyspace.find(&entry.mapping).filter(|id| list[id.index()].config.writes_table())
    };
    let (entries, lost): (Vec<_>, Vec<_>) =
        entries.into_iter().map(|entry| (of(&entry), entry)).partition(|(mapping, _)| mapping.is_some());
    for (_, entry) in &lost {
        tracing::error!(
            mapping = &*entry.mapping,
            "a deferred write waits for a mapping that is not configured any more (or writes no table); it stays in \
             the journal until it is configured"
        );
    }
    journal.let_go(entries.iter().map(|(_, entry)| entry));
    for (mapping, entry) in entries {
        if let Some(mapping) = mapping {
            owned.cache.replay(mapping, vec![entry]);
        }
    }
    owned.cache.keep(lost.into_iter().map(|(_, entry)| entry).collect());
    owned.cache.count_waiting();
}

/// The last batch of the incarnation before that was applied. From then on no other batch of it is applied, not even
/// one that the network still delivers. Asks until the store answers: only the store knows which batches were applied.
///
/// # Errors
/// The store says no.
async fn raise(
    journal: &Journal,
    waiting: &Waiting,
    owned: &Owned,
    away: Option<&Unavailable>,
) -> Result<Raised, StoreError> {
    loop {
        match ask(journal, waiting, owned).await {
            Err(error @ StoreError::ReadOnly(_)) => return Err(error),
            Err(error) if error.is_final() => {
                tracing::warn!(%error, "waiting for the store, which knows what of the journal it has applied");
                if let Some(away) = away {
                    away.say(format!(
                        "it is there, and does not say what of the journal it has applied ({error}); is \
                         hearthside.journals locked by another session?"
                    ));
                }
            }
            answer => return answer,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One attempt of [`raise`].
async fn ask(journal: &Journal, waiting: &Waiting, owned: &Owned) -> Result<Raised, StoreError> {
    let (batches, heir) = (batches_before(waiting.last, &waiting.taken), journal.incarnation());
    let (former, name) = (&waiting.heirs, &waiting.incarnation);
    let fence = Fence { journal: name, until: ALL, taken: &batches, heir: Some(&heir), former };
    // A connection may be open and silent for ever.
    let answer = tokio::time::timeout(owned.cache.deadline(), owned.store.fence(fence)).await;
    answer.unwrap_or_else(|_| Err(StoreError::Unavailable("it took too long".into())))
}

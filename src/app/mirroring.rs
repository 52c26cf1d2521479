//! What of a mapping is ended before others answer for its keys: what is under way, what waits in the journal and, of
//! mappings that are mirrored, what the upstream does not have yet, which is also brought there every now and then.
//!
//! Invariants:
//! - what is brought to the upstream is of keys that are owned: what clients have written there is never overwritten;
//! - while something may still be applied there that was given up, clients do not write there.

use std::time::{Duration, Instant};

use super::modes::OTHERS;
use super::reload::Sidecar;
use super::serving::Serving;
use crate::config::Mode;
use crate::dispatch::{Owned, Unbrought};
use crate::keys::MappingId;
use crate::mapping::{Kind, Mapping, Modes, Setting};
use crate::upstream::Endpoint;

/// So long the store may take to end what is under way, the upstream to take what is brought there, and to say that
/// nothing of it is applied any more: it is back within five seconds in any case.
const LIMIT: Duration = Duration::from_secs(2);
const BRINGING: Duration = Duration::from_millis(1500);
const SETTLING: Duration = Duration::from_secs(1);

/// So long bringing over what was written may take at a time, while nobody waits for it.
const MIRRORING: Duration = Duration::from_millis(500);

/// What of a mapping changes.
#[derive(Clone, Copy)]
pub(super) struct Leave<'l> {
    pub(super) before: &'l Modes,
    pub(super) after: &'l [Setting],
    /// The mappings that change over.
    pub(super) mappings: &'l [MappingId],
    /// Another sidecar asked for it at this moment, and waits for what is brought for so long only: [`OTHERS`].
    pub(super) by_other: Option<Instant>,
}

/// What is to be known when a mapping has another mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// What was written is not at the upstream, which nobody asked for.
    Unmirrored,
    /// What the upstream has is older than the mapping's mode.
    Old,
    /// Not everything is there that was to be brought.
    Unbrought,
    /// The store has not ended within [`LIMIT`].
    Unfinished,
    /// What was to be brought may still be applied there.
    Unsettled,
    /// What was to be brought, of a mapping whose keys were taken from the upstream, is not all there yet.
    Going,
}

impl Left {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Unmirrored => {
                "what was written while the keys were owned is in the store, and not at the upstream (mirror = false); \
                 what the upstream has of them is as it was before"
            }
            Self::Old => "what the upstream has of the keys is as it was before they were owned",
            Self::Unbrought => {
                "not everything that was written while the keys were owned could be brought to the upstream"
            }
            Self::Unfinished => {
                "the store has not ended within 2 s what was under way: writes that were not answered may still be \
                 applied, and deferred ones wait in the journal until it takes them"
            }
            Self::Unsettled => {
                "the upstream does not answer, and what was on its way there might come over what clients write: \
                 mappings with mirror = true stay as they were; ask again when it answers"
            }
            Self::Going => {
                "not everything that was written is at the upstream yet: mappings with mode = \"fallback\" stay as \
                 they were; ask again, it goes on where it was"
            }
        }
    }

    /// True of a mapping that was in this mode and would give up keys: it stays in it.
    pub(super) const fn keeps(self, mode: Mode) -> bool {
        match self {
            Self::Unsettled => true,
            Self::Going => matches!(mode, Mode::Fallback),
            _ => false,
        }
    }

    /// True where something went wrong.
    pub(super) const fn is_trouble(self) -> bool {
        !matches!(self, Self::Unmirrored | Self::Old)
    }
}

impl Sidecar {
    /// Ends what is under way of mappings that are held, and brings to the upstream what is to be there.
    pub(super) async fn leave(&self, serving: &Serving, leave: Leave<'_>) -> Option<Left> {
        let Leave { before, after, mappings, by_other } = leave;
        let list = &self.owned.mappings.list;
        // Some of its keys are the upstream's from now on.
        let gives_up = |id: &&MappingId| before.setting(**id).gives_up(after[id.index()]);
        let (mirrored, unmirrored): (Vec<MappingId>, Vec<MappingId>) =
            mappings.iter().filter(gives_up).partition(|id| is_brought(&list[id.index()], before.setting(**id).mode));
        // A key that stays owned in the mode fallback must not be at the upstream, too.
        let then = Modes::of(after.to_vec(), Vec::new());
        let bringing = async |limit: Duration| {
            let is_meant = |id: MappingId, key: &[u8]| mirrored.contains(&id) && !then.owns(id, key);
            tokio::time::timeout(limit, self.owned.mirror(&serving.upstream, is_meant)).await
        };
        let is_left = |pattern: &str| mappings.iter().any(|id| list[id.index()].pattern.text() == pattern);
        let ends = async || {
            self.owned.settles.ended(is_left).await;
            self.owned.cache.leave(mappings).await
        };
        let ending = async || matches!(tokio::time::timeout(LIMIT, ends()).await, Ok(Ok(())));
        let (has_ended, brought) = match by_other {
            None => (ending().await, bringing(BRINGING).await),
            // What ends later is not brought any more.
            Some(at) => {
                let brought = bringing(OTHERS.saturating_sub(at.elapsed())).await;
                (ending().await, brought)
            }
        };
        if !has_ended {
            self.owned.settles.give_up(is_left);
        }
        if !mirrored.is_empty() {
            let settled = tokio::time::timeout(SETTLING, serving.upstream.settle()).await;
            if !matches!(settled, Ok(Ok(()))) {
                return Some(Left::Unsettled);
            }
        }
        // Without the store it is not known what is to be brought.
        let is_on_its_way = match &brought {
            Err(_) => has_ended,
            Ok(brought) => matches!(brought, Err(Unbrought::Upstream(_))),
        };
        if is_on_its_way && mirrored.iter().any(|id| before.setting(*id).mode == Mode::Fallback) {
            return Some(Left::Going);
        }
        // From now on the mappings have the other mode.
        let has_lost = self.owned.cache.take_lost_written(&mirrored);
        let is_written = unmirrored.iter().any(|id| list[id.index()].config.is_written());
        match brought {
            _ if !has_ended => Some(Left::Unfinished),
            Ok(Ok(_)) if has_lost => Some(Left::Unbrought),
            Ok(Ok(_)) if is_written => Some(Left::Unmirrored),
            Ok(Ok(_)) => (!unmirrored.is_empty()).then_some(Left::Old),
            _ => Some(Left::Unbrought),
        }
    }

    /// What could not be brought to the upstream in time, or was written late, must not come over what clients write
    /// there now. How many keys that are.
    pub(super) fn forget_given_up(&self) -> usize {
        let keyspace = &self.owned.mappings.keyspace;
        let is_owned = |key: &[u8]| keyspace.owner(key).is_some_and(|id| self.modes.owns(id, key));
        let forgotten = self.owned.cache.forget_written(|key| !is_owned(key));
        // What was noted in the mode fallback is the store's alone when all keys are.
        let is_noted = noted(&self.owned, &self.modes);
        self.owned.cache.forget_written(|key| keyspace.owner(key).is_some_and(|id| !is_noted[id.index()]));
        if forgotten > 0 {
            let text =
                "keys that were written while they were owned are not brought to the upstream, whose they are now";
            tracing::info!(keys = forgotten, "{text}");
        }
        self.metrics.owned.mirror_waiting.set(self.owned.cache.count_written() as i64);
        forgotten
    }

    /// Brings what was written to the upstream, of mappings that are mirrored.
    pub(super) async fn mirror(&mut self, upstream: &Endpoint) {
        let modes = self.modes.clone();
        // In the mode fallback a copy at the upstream would come back when the store's key ends.
        let falls_back = |id: &MappingId| modes.setting(*id).mode == Mode::Fallback;
        let mirrored: Vec<MappingId> = self.owned.mirrored().filter(|id| !falls_back(id)).collect();
        let waiting = self.owned.cache.count_written();
        if mirrored.is_empty() || waiting == 0 {
            return;
        }
        if modes.is_partial() {
            let _late = self.forget_given_up();
        }
        let is_meant = |id: MappingId, key: &[u8]| mirrored.contains(&id) && modes.owns(id, key);
        let bringing = self.owned.mirror(upstream, is_meant);
        let why = match tokio::time::timeout(MIRRORING, bringing).await {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => Some(why.to_string()),
            Err(_) => Some("it takes too long".to_owned()),
        };
        self.metrics.owned.mirror_waiting.set(self.owned.cache.count_written() as i64);
        if let (Some(why), None) = (&why, &self.unmirrored) {
            tracing::info!(why, "what was written is not brought to the upstream (mirror) for now; it is tried again");
        }
        self.unmirrored = why;
    }
}

/// True when what was written is brought to the upstream, of a mapping that was in this mode: also in `fallback`, where
/// keys are taken from there.
pub(super) fn is_brought(mapping: &Mapping, mode: Mode) -> bool {
    mapping.kind == Kind::Cache && (mapping.config.mirror || mode == Mode::Fallback)
}

/// Of which mappings that is so, by their numbers.
pub(super) fn noted(owned: &Owned, modes: &Modes) -> Vec<bool> {
    owned.mappings.list.iter().map(|mapping| is_brought(mapping, modes.setting(mapping.id).mode)).collect()
}

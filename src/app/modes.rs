//! Mappings change over to other modes while clients are served (decision 0040): by an order, or by a reload.
//!
//! Invariants:
//! - while a mapping changes over, no request for its keys begins (`Modes::changing`), and when the first edition has
//!   been adopted, no write of it queues any more;
//! - the other mode is in force when every write that had queued has ended, and what waited in the journal is saved, or
//!   after `LIMIT`;
//! - nothing that was in memory, or was being loaded, before a mapping is owned again is served then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::reload::Sidecar;
use super::serving::Serving;
use crate::config::Mode;
use crate::dispatch::{ModeOrder, Which};
use crate::errors;
use crate::inspect::mode_facts;
use crate::keys::MappingId;
use crate::mapping::{Kind, Mapping, Modes, Setting};
use crate::store::Word;
use crate::telemetry::audit::AuditLine;

/// So long the store may take to end what is under way, and the upstream to take what is brought there: it is back
/// within five seconds in any case.
const LIMIT: Duration = Duration::from_secs(2);
const BRINGING: Duration = Duration::from_secs(2);

/// So long other sidecars have to bring over what was written through them.
const OTHERS: Duration = Duration::from_millis(300);

/// What of a mapping is not at the upstream.
const UNMIRRORED: &str = "what was written while the keys were owned is in the store, and not at the upstream \
    (mirror = false)";
const UNBROUGHT: &str = "not everything that was written while the keys were owned could be brought to the upstream";

/// So long bringing over what was written may take at a time, while nobody waits for it.
const MIRRORING: Duration = Duration::from_millis(500);

/// So long the store may take to pass it on.
const TELLING: Duration = Duration::from_secs(1);

/// What of the store was not done within [`LIMIT`].
const UNFINISHED: &str = "the store has not ended within 2 s what was under way: writes that were not answered may \
    still be applied, and deferred ones wait in the journal until it takes them";

impl Sidecar {
    /// Does what somebody asks, says what is in force then, and tells the other sidecars of the store.
    pub(super) async fn obey(&mut self, serving: &Serving, order: ModeOrder) {
        let ModeOrder { which, mode, percent, reply } = order;
        let (settings, named) = match self.wanted(&which, mode, percent) {
            Ok(wanted) => wanted,
            Err(text) => {
                // Another sidecar may have mappings that this one has not. The client may have left.
                let _left = reply.map(|reply| reply.send(Err(text)));
                return;
            }
        };
        let mapping = if let Which::One(pattern) = which { Some(pattern) } else { None };
        let word = reply.as_ref().map(|_| Word::Mode { mapping, mode, percent });
        let notes = self.change_over(serving, settings, word.as_ref()).await;
        let Some(reply) = reply else {
            self.metrics.audit.add(&AuditLine::of_the_sidecar("MODE by the change feed", &Ok::<(), &str>(())));
            return;
        };
        let facts = mode_facts(&self.owned.mappings, &self.modes).into_iter().zip(named);
        let told = facts.filter(|(_, is_named)| *is_named).map(|(fact, _)| fact.noting(&notes));
        let _left = reply.send(Ok(told.collect()));
    }

    /// Tells the other sidecars of the store; or what is to be known where that cannot be done.
    async fn tell_others(&self, word: Option<&Word>) -> Option<String> {
        let why = match tokio::time::timeout(TELLING, self.owned.store.say(word?)).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::info!(why, "other sidecars of the store are not told that mappings have another mode");
        Some(format!("other sidecars of the store were not told, ask each of them: {why}"))
    }

    /// The settings of all mappings, and which of them are named.
    fn wanted(&self, which: &Which, mode: Mode, percent: Option<u8>) -> Result<(Vec<Setting>, Vec<bool>), String> {
        let mappings = &self.owned.mappings.list;
        let is_named = |mapping: &Mapping| match which {
            Which::All => true,
            Which::One(pattern) => mapping.pattern.text() == pattern,
        };
        let named: Vec<bool> = mappings.iter().map(is_named).collect();
        if let (Which::One(pattern), false) = (which, named.contains(&true)) {
            return Err(errors::hearthside::no_mapping(pattern));
        }
        let mut settings = self.modes.settings();
        for (setting, _) in settings.iter_mut().zip(&named).filter(|(_, is_named)| **is_named) {
            *setting = Setting { mode, percent: percent.unwrap_or(setting.percent) };
        }
        Ok((settings, named))
    }

    /// Brings these settings into force, and tells the other sidecars of the store what they are asked; what is to be
    /// known of it.
    pub(super) async fn change_over(
        &mut self,
        serving: &Serving,
        settings: Vec<Setting>,
        word: Option<&Word>,
    ) -> Vec<String> {
        let (before, mappings) = (self.modes.clone(), self.owned.mappings.clone());
        let differs = |mapping: &&Mapping| settings.get(mapping.id.index()) != Some(&before.setting(mapping.id));
        let changing: Vec<&Mapping> = mappings.list.iter().filter(differs).collect();
        let begun = Instant::now();
        let cached: Vec<MappingId> =
            changing.iter().filter(|mapping| mapping.kind == Kind::Cache).map(|mapping| mapping.id).collect();
        if cached.is_empty() {
            if !changing.is_empty() {
                self.come_into_force(serving, settings).await;
            }
        } else {
            let done = CancellationToken::new();
            // Also where this is given up halfway, clients do not wait for ever.
            let _done = done.clone().drop_guard();
            serving.adopt(self.edition_in(&Arc::new(before.changing(&cached, done)))).await;
            let leaving = self.leave(serving, (&before, &settings), &cached);
            let (left, untold) = tokio::join!(leaving, self.tell_others_and_wait(word, &before, &settings));
            cached.iter().for_each(|mapping| self.owned.cache.forget_by_mode(*mapping));
            self.come_into_force(serving, settings).await;
            self.forget_given_up(&cached);
            self.log_changes(&changing, &before, (begun.elapsed(), left));
            return left.map(str::to_owned).into_iter().chain(untold).collect();
        }
        self.log_changes(&changing, &before, (begun.elapsed(), None));
        self.tell_others(word).await.into_iter().collect()
    }

    /// What could not be brought to the upstream in time must not come over what clients write there now.
    fn forget_given_up(&self, mappings: &[MappingId]) {
        let keyspace = &self.owned.mappings.keyspace;
        let is_given_up = |id: MappingId, key: &[u8]| mappings.contains(&id) && !self.modes.owns(id, key);
        let is_meant = |key: &[u8]| keyspace.owner(key).is_some_and(|id| is_given_up(id, key));
        drop(self.owned.cache.take_written(usize::MAX, is_meant));
        self.metrics.owned.mirror_waiting.set(self.owned.cache.count_written() as i64);
    }

    /// From now on requests are routed by these settings.
    async fn come_into_force(&mut self, serving: &Serving, settings: Vec<Setting>) {
        self.modes = Arc::new(Modes::of(settings, self.modes.all_configured()));
        self.show_modes();
        serving.adopt(self.edition_in(&self.modes)).await;
    }

    /// Tells the others. Where they have something to bring to the upstream, they get a moment for that: it would come
    /// over what clients of this sidecar write there.
    async fn tell_others_and_wait(&self, word: Option<&Word>, before: &Modes, after: &[Setting]) -> Option<String> {
        let untold = self.tell_others(word).await;
        let brings = |id: &MappingId| before.setting(*id).gives_up(after[id.index()]);
        if word.is_some() && untold.is_none() && self.owned.mirrored().iter().any(brings) {
            tokio::time::sleep(OTHERS).await;
        }
        untold
    }

    /// Ends what is under way of mappings that are held, and brings to the upstream what is to be there.
    async fn leave(
        &self,
        serving: &Serving,
        (before, after): (&Modes, &[Setting]),
        mappings: &[MappingId],
    ) -> Option<&'static str> {
        let has_ended = tokio::time::timeout(LIMIT, self.owned.cache.leave(mappings)).await;
        let list = &self.owned.mappings.list;
        // Some of its keys are the upstream's from now on.
        let own = |id: &&MappingId| before.setting(**id).gives_up(after[id.index()]);
        let (mirrored, unmirrored): (Vec<MappingId>, Vec<MappingId>) =
            mappings.iter().filter(own).partition(|id| list[id.index()].config.mirror);
        let brought = tokio::time::timeout(BRINGING, self.owned.mirror(&serving.upstream, &mirrored)).await;
        let is_written = unmirrored.iter().any(|id| list[id.index()].config.is_written());
        match (has_ended, brought) {
            (Ok(Ok(())), Ok(Ok(_))) if is_written => Some(UNMIRRORED),
            (Ok(Ok(())), Ok(Ok(_))) => None,
            (Ok(Ok(())), _) => Some(UNBROUGHT),
            _ => Some(UNFINISHED),
        }
    }

    /// Brings what was written to the upstream, of mappings that are mirrored.
    pub(super) async fn mirror(&mut self, serving: &Serving) {
        if self.owned.cache.count_written() == 0 {
            return;
        }
        let owning: Vec<MappingId> = self.owned.mirrored().into_iter().filter(|id| self.modes.owns_some(*id)).collect();
        let brought = tokio::time::timeout(MIRRORING, self.owned.mirror(&serving.upstream, &owning)).await;
        let why = match brought {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some("it takes too long".to_owned()),
        };
        self.metrics.owned.mirror_waiting.set(self.owned.cache.count_written() as i64);
        if let (Some(why), None) = (&why, &self.unmirrored) {
            tracing::info!(why, "what was written is not brought to the upstream (mirror) for now; it is tried again");
        }
        self.unmirrored = why;
    }

    fn log_changes(&self, changing: &[&Mapping], before: &Modes, (took, why): (Duration, Option<&str>)) {
        let (took_ms, trouble) = (took.as_millis() as u64, why.filter(|why| *why != UNMIRRORED));
        for mapping in changing {
            let (name, was, now) = (mapping.pattern.text(), before.setting(mapping.id), self.modes.setting(mapping.id));
            let (mode, percent, was) = (now.mode.name(), now.percent, was.mode.name());
            match trouble {
                None => tracing::info!(mapping = name, mode, percent, was, took_ms, "a mapping has another mode"),
                Some(why) => {
                    tracing::warn!(mapping = name, mode, percent, was, took_ms, why, "a mapping has another mode");
                }
            }
        }
    }

    /// Shows which modes are in force.
    pub(super) fn show_modes(&self) {
        for mapping in &self.owned.mappings.list {
            let Setting { mode, percent } = self.modes.setting(mapping.id);
            self.metrics.mappings.of(mapping.pattern.text()).is_in(mode, percent);
            if mode == Mode::Shadow {
                self.metrics.shadow.show(mapping.pattern.text());
            }
        }
    }

    /// The modes of the mappings of a reload, before those of its file are in force: where a mapping was there before,
    /// the mode that it was in.
    pub(super) fn inherited_modes(&self, mappings: &[Mapping]) -> Arc<Modes> {
        let before = |mapping: &Mapping| {
            let is_same = |other: &&Mapping| other.pattern.text() == mapping.pattern.text();
            let known = self.owned.mappings.list.iter().find(is_same);
            known.map_or(Setting::configured(mapping), |known| self.modes.setting(known.id))
        };
        let configured = mappings.iter().map(Setting::configured).collect();
        Arc::new(Modes::of(mappings.iter().map(before).collect(), configured))
    }
}
